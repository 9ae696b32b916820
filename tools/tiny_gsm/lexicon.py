"""Words of the generated problems: people, things, places and irregular verbs."""

from __future__ import annotations

from dataclasses import dataclass

MALE = """Tom John James Robert Michael David William Richard Joseph Thomas Charles Daniel Matthew
Mark Paul Steven Andrew Ken Kevin Brian George Ed Ryan Jacob Gary Nick Eric Jon Stephen Larry Justin
Scott Brandon Ben Sam Frank Greg Ray Jack Dennis Jerry Tyler Aaron Jose Adam Nathan Henry Doug Peter
Zach Kyle Noah Ethan Jeremy Walter Keith Roger Terry Sean Leo Omar Ali Raj Ivan Carlos Luis Diego Wei
Hiro Max Oscar Felix Liam Lucas Mason Logan Toby Bob Bill Jim Tim Mike Dan Dave Joe Alan Harry Oliver
Theo Finn Hugo Pedro Ahmed Yusuf Kofi Marcus Victor Simon Martin Jason Dylan Caleb Owen Ravi Arjun
Milo Otto Gabe Bruno Shawn Ronald Benny Barry Craig Phil Wayne Travis Wesley Trevor Joel Ian Neil Colin Alex Chris Pat Drew Jordan
Cole Hank Ernie Bert Rex Ralph Roy Russell Dean Dale Glen Stan Todd Tony Vince Warren Grant Jake Josh Andy Leon Rick Rob Ron Ted
Sergio Mario Enrique Javier Pablo Rafael Hassan Karim Tariq Imran Vikram Sanjay Anil Kenji Takeshi Jin Ming Tao Boris Igor Lars Sven
Olaf Pierre Jacques Luca Marco Paolo Kwame Jamal Tyrone Darnell DeShawn Elijah Isaac Isaiah Levi Asher Silas Ezra Jude Nolan Wyatt""".split()

FEMALE = """Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Lisa Nancy Betty
Sandra Margaret Ashley Kim Emily Donna Michelle Carol Amanda Melissa Deborah Stephanie Rebecca Laura
Helen Sharon Cynthia Kathleen Amy Angela Anna Ruth Brenda Nicole Katherine Emma Samantha Christine
Rachel Carolyn Janet Maria Heather Diane Olivia Julie Joyce Victoria Kelly Lauren Joan Megan Andrea
Hannah Jean Alice Julia Grace Judy Sophia Rose Denise Marilyn Amber Natalia Tina Mia Zoe Chloe Lily
Ella Ava Isabella Ivy Nora Priya Mei Yuki Fatima Aisha Leila Ines Elena Rosa Sofia Lucy Molly Daisy
Ruby Clara Eva Jane Jill Ann Sue Beth Kate Weng Tanya Betsy Lena Gina Abby Wendy Sally Penny Sasha
Nina Paula Hazel Leah Jenny Jen Katie Allison Alyssa Bella Bonnie Carla Cathy Charlotte Cindy Claire Courtney Crystal Dana Debbie
Doris Edith Eleanor Ellen Erin Esther Faith Fiona Frances Georgia Gloria Gwen Holly Hope Irene Jackie Jasmine Jessie Jodi Josie Joy
Juliet Kara Kayla Kendra Kristen Layla Lori Louise Lydia Maggie Marcia Marie Martha Maya Melanie Meredith Miranda Monica Naomi Natalie
Pam Peggy Phoebe Piper Rita Robin Sabrina Sadie Scarlett Serena Sheila Skylar Stella Tara Teresa Trisha Vanessa Vera Violet Willow
Yolanda Yvonne Amara Anika Anjali Chen Divya Farah Freya Gabriela Hana Ingrid Jia Kavya Lucia Mariam Mina Nadia Noor Olga Pilar Sana
Shreya Sonia Tamar Xiu Yara Zara Zainab""".split()

ROLES = """baker:he baker:she farmer:he farmer:she teacher:she teacher:he shopkeeper:he florist:she
gardener:he chef:he chef:she student:she student:he boy:he girl:she man:he woman:she painter:he
carpenter:he fisherman:he librarian:she shop owner:she grocer:he collector:he coach:he driver:he
mechanic:he waiter:he waitress:she nurse:she vendor:he tailor:he""".replace("\n", " ").replace(
    "shop owner", "shop_owner").split()

RELATIVES = """brother:he sister:she mom:she dad:he mother:she father:he friend:he friend:she
cousin:she cousin:he uncle:he aunt:she neighbor:he neighbor:she grandma:she grandpa:he
grandmother:she grandfather:he""".split()


@dataclass(frozen=True)
class Noun:
    """A countable noun; str() is the plural."""

    one: str
    many: str

    def __str__(self) -> str:
        return self.many


IRREGULAR_PLURALS = {
    "peach": "peaches", "sandwich": "sandwiches", "box": "boxes", "bus": "buses", "brush": "brushes",
    "fish": "fish", "sheep": "sheep", "strawberry": "strawberries", "cherry": "cherries",
    "blueberry": "blueberries", "candy": "candies", "cookie": "cookies", "puppy": "puppies",
    "pony": "ponies", "daisy": "daisies", "lily": "lilies", "toy": "toys", "knife": "knives",
    "shelf": "shelves", "tomato": "tomatoes", "potato": "potatoes", "mango": "mangoes",
    "glass": "glasses", "dish": "dishes", "bench": "benches", "watch": "watches", "dress": "dresses",
    "piece of candy": "pieces of candy", "goose": "geese", "box of crayons": "boxes of crayons",
    "bunch": "bunches", "brush pen": "brush pens", "pastry": "pastries", "berry": "berries",
    "branch": "branches", "necklace": "necklaces", "loaf of bread": "loaves of bread", "scarf": "scarves",
    "bottle of water": "bottles of water", "can of soda": "cans of soda", "paintbrush": "paintbrushes",
    "leaf": "leaves", "penny": "pennies", "family": "families", "person": "people", "child": "children",
    "basket": "baskets", "tray": "trays", "day": "days", "bookshelf": "bookshelves", "story": "stories",
    "trophy": "trophies", "calf": "calves", "fly": "flies", "butterfly": "butterflies", "cup of tea": "cups of tea",
    "pair of socks": "pairs of socks", "pair of shoes": "pairs of shoes", "bag of chips": "bags of chips",
    "gallon of milk": "gallons of milk", "box of cereal": "boxes of cereal", "battery": "batteries",
    "bag of rice": "bags of rice", "party hat": "party hats", "peanut": "peanuts",
}


def noun(one: str) -> Noun:
    if one in IRREGULAR_PLURALS:
        return Noun(one, IRREGULAR_PLURALS[one])
    if one.endswith("y") and one[-2] not in "aeiou":
        return Noun(one, one[:-1] + "ies")
    return Noun(one, one + ("es" if one.endswith(("s", "x", "ch", "sh")) else "s"))


def nouns(text: str) -> list[Noun]:
    return [noun(w.strip()) for w in text.replace("\n", " ").split(",")]


FOOD = nouns("""apple, orange, banana, peach, pear, plum, mango, lemon, cookie, cupcake, muffin, donut,
brownie, candy, piece of candy, chocolate, sandwich, strawberry, cherry, blueberry, grape, carrot, tomato,
potato, egg, cracker, pancake, lollipop, gumdrop, jelly bean, pretzel, nut, walnut, cake, pie, pizza, bagel,
roll, taco, hot dog, hamburger, burger, chocolate bar, candy bar, granola bar, mint, pickle, olive, date, fig,
kiwi, melon, watermelon, pineapple, coconut, onion, pepper, cucumber, pumpkin, pastry, dumpling, waffle,
tart, croissant, scone, radish, nectarine, lime, chip, marshmallow, peanut, ice cream cone, slice of pizza""".replace(
    "radish,", ""))

THINGS = nouns("""marble, sticker, stamp, coin, card, baseball card, toy car, toy, book, comic book, pencil, pen,
crayon, marker, eraser, notebook, balloon, shell, seashell, rock, bead, button, ribbon, bracelet, necklace,
doll, block, puzzle, game, video game, poster, magazine, postcard, photo, picture, key, badge, ball,
tennis ball, baseball, basketball, kite, hat, shirt, sock, scarf, shoe, flower, rose, tulip, daisy, candle, cup,
plate, bowl, spoon, fork, bottle, can, box, bag, basket, ticket, letter, envelope, gem, diamond, pebble, leaf,
paper clip, clip, rubber band, folder, ruler, paintbrush, figurine, action figure, model plane, robot,
trading card, lego brick, brick, nail, screw, battery, light bulb, bookmark, keychain, medal, trophy, bell,
charm, feather, origami crane, paper plane, sheet of paper, newspaper, pin, magnet, dice set, mug, towel, pillow,
blanket, water bottle, lamp, chair, table""")

ANIMALS = nouns("""cat, dog, puppy, kitten, rabbit, hamster, fish, goldfish, bird, parrot, duck, chicken, hen, goose,
cow, goat, sheep, pig, horse, pony, frog, turtle, lizard, snail, butterfly, bee, ant, mouse, sparrow, pigeon,
crab, squirrel, beetle, fly, llama, turkey, duckling, chick, calf""".replace("mouse, ", ""))
ANIMALS = [n if n.one != "goldfish" else Noun("goldfish", "goldfish") for n in ANIMALS]

PLANTS = nouns("""tree, apple tree, rose, tulip, flower, bush, oak tree, sunflower, tomato plant, pine tree, seed,
lily, daisy, palm tree, sapling, orange tree, plant, daffodil""".replace("bush, ", ""))

GOODS = nouns("""shirt, hat, book, notebook, pen, pencil, toy, game, puzzle, sandwich, coffee, pizza, burger, cake,
pie, ticket, ball, mug, candle, scarf, poster, plant, muffin, donut, juice, salad, lamp, backpack, dress, jacket,
sweater, bag of chips, can of soda, bottle of water, box of cereal, gallon of milk, loaf of bread, bag of rice,
pair of socks, magazine, comic book, plate, pillow, towel, umbrella, candy bar, ice cream cone, cupcake, hot dog,
chair, folder, marker, paintbrush, bracelet, basket, movie ticket, flower, rose, video game, pair of shoes, T-shirt,
cookie, milkshake, water bottle, keychain, stuffed animal, watermelon, apple, orange, carton of eggs""")

CONTAINERS = nouns("""box, bag, basket, crate, jar, packet, pack, tray, carton, case, bin, bucket, drawer, container,
bundle, sack""")

MORE = nouns("""acorn, album, anchor, apron, arrow, axe, backpack, bandana, banner, barrel, bat, bean, bed, belt, bike, blueprint,
boat, bolt, boot, bracket, broom, bun, cable, cactus plant, calculator, calendar, camera, candle holder, cape, carpet, cassette, CD, chain,
charger, chess piece, clock, coat, coconut, coffee, comb, compass, computer, cone, cork, costume, cracker, crown, cube, cupcake liner, curtain,
desk, diary, disc, donut hole, door, dress, drum, earring, egg roll, engine, fan, flag, flashlight, flute, frame, fridge magnet, garland, glove,
globe, goggle, guitar, hammer, handbag, hook, hose, hourglass, jacket, jar of jam, jersey, jewel, jug, kettle, ladder, lantern, laptop, lid,
lightbulb, lock, log, lunchbox, map, mask, mat, mirror, mitten, mop, napkin, needle, net, oar, ornament, package, pail, paint can, pan, parcel,
patch, pearl, phone, piano, plank, plaque, pot, present, printer, prize, pumpkin seed, purse, quilt, raincoat, raisin, rake, record, ring, rocket,
rope, rug, saddle, sandal, saw, scooter, shovel, sign, skateboard, sketch, ski, spoonful, sponge, spring roll, stick, stone, stool, straw,
suitcase, sweater, sword, tablet, tape, teacup, teapot, tent, tie, tile, tire, token, tomato seed, tool, toothbrush, torch, trumpet, truck, tulip bulb,
umbrella, uniform, vase, vest, video, violin, wallet, wand, washer, wheel, whistle, window, wreath, yo-yo, zipper, almond, apricot, avocado, beet,
biscuit, bun, cabbage, caramel, cashew, clementine, cranberry, crepe, cutlet, eclair, fritter, fruit cup, garlic clove, gum ball, hazelnut, lettuce head,
macaroon, meatball, mushroom, noodle bowl, papaya, pistachio, popsicle, quiche, raspberry tart, samosa, sausage, shrimp, truffle, turnip, yam, yogurt cup""")

MODIFIERS = """golf ping-pong soccer school birthday coffee chocolate paper metal glass birthday holiday party garden kitchen baby
math pirate dinosaur winter summer vanilla lemon cotton leather magic family picture travel beach honey farm ocean space star
wedding rainbow pocket music vintage plum cherry cardboard rubber stone bamboo sugar ginger banana office library sports snow""".split()

ADJECTIVES = """red blue green yellow purple orange pink white black big small old new shiny wooden plastic
striped silver gold brown gray large tiny colorful""".split()
COLORS = "red blue green yellow purple pink white black orange brown gray silver gold".split()

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
PLACES = """park, store, market, library, school, zoo, beach, farm, museum, mall, fair, bakery, garden, supermarket,
toy store, gym, stadium, theater, festival, club, camp, restaurant, hotel, hospital, office""".replace("\n", " ").split(", ")
SUBJECTS = "math science history English art music geography reading biology physics".split()
SPORTS = "soccer basketball baseball football volleyball hockey tennis".split()
VEHICLES = "car train bus truck van motorcycle boat ship taxi".split()
JOBS = ["at a cafe", "at a store", "as a tutor", "at a bakery", "babysitting", "mowing lawns", "at the library",
        "as a cashier", "at a restaurant", "walking dogs", "at a factory", "as a waiter", "as a plumber",
        "washing cars", "as a nurse", "at a garage", "as a driver", "cleaning houses"]

# base form -> (third person, past)
VERBS = {
    "have": ("has", "had"), "be": ("is", "was"), "do": ("does", "did"), "buy": ("buys", "bought"),
    "get": ("gets", "got"), "give": ("gives", "gave"), "find": ("finds", "found"), "eat": ("eats", "ate"),
    "lose": ("loses", "lost"), "sell": ("sells", "sold"), "make": ("makes", "made"), "read": ("reads", "read"),
    "run": ("runs", "ran"), "drive": ("drives", "drove"), "ride": ("rides", "rode"), "swim": ("swims", "swam"),
    "spend": ("spends", "spent"), "pay": ("pays", "paid"), "take": ("takes", "took"), "put": ("puts", "put"),
    "cut": ("cuts", "cut"), "break": ("breaks", "broke"), "throw": ("throws", "threw"), "go": ("goes", "went"),
    "come": ("comes", "came"), "see": ("sees", "saw"), "win": ("wins", "won"), "write": ("writes", "wrote"),
    "draw": ("draws", "drew"), "drink": ("drinks", "drank"), "sleep": ("sleeps", "slept"),
    "catch": ("catches", "caught"), "grow": ("grows", "grew"), "keep": ("keeps", "kept"), "send": ("sends", "sent"),
    "hold": ("holds", "held"), "build": ("builds", "built"), "lend": ("lends", "lent"), "bring": ("brings", "brought"),
    "think": ("thinks", "thought"), "leave": ("leaves", "left"), "hide": ("hides", "hid"), "cost": ("costs", "cost"),
    "sing": ("sings", "sang"), "begin": ("begins", "began"), "feed": ("feeds", "fed"), "know": ("knows", "knew"),
    "want": ("wants", "wanted"), "start": ("starts", "started"), "plant": ("plants", "planted"), "fly": ("flies", "flew"),
    "carry": ("carries", "carried"), "study": ("studies", "studied"), "drop": ("drops", "dropped"),
    "hit": ("hits", "hit"), "set": ("sets", "set"), "trade": ("trades", "traded"), "split": ("splits", "split"),
    "say": ("says", "said"), "tell": ("tells", "told"), "mow": ("mows", "mowed"), "stop": ("stops", "stopped"),
    "plan": ("plans", "planned"), "wrap": ("wraps", "wrapped"), "babysit": ("babysits", "babysat"),
}

SYLLABLES = "ba be bi bo ka ke ko la le li lo ma me mi mo na ne ni no ra re ri ro sa se si ta te ti to va vi za zo da de di".split()
ENDINGS = "n r s l th x m k ra na la nor lin ton vi".split()
