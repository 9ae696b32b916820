// Keeps the end of a growing text in sight while the reader is there, and leaves alone one who has scrolled up.

const NEAR = 60; // pixels from the end that count as the end

export class ScrollFollower {
  /** @param {HTMLElement} scroller  @param {HTMLButtonElement} button  back to the end */
  constructor(scroller, button) {
    this.scroller = scroller;
    this.button = button;
    this.follows = true;
    scroller.addEventListener("scroll", () => {
      this.follows = this.distance() < NEAR;
      this.button.hidden = this.follows;
    });
    button.addEventListener("click", () => this.toEnd());
  }

  distance() {
    return this.scroller.scrollHeight - this.scroller.clientHeight - this.scroller.scrollTop;
  }

  /** The text has grown. */
  moved() {
    if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.button.hidden = false;
  }

  toEnd() {
    this.follows = true;
    this.button.hidden = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }
}
