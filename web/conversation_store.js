// Conversations in the browser's IndexedDB; where it is not to be had, in this tab's memory, which `isKept` tells.
//
// A conversation is {id, title, updated (ms since 1970), messages}.

const STORE = "conversations";

/** @returns {Promise<IndexedStore|MemoryStore>} */
export async function openStore() {
  try {
    const request = indexedDB.open("mxmla", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: "id" });
    return new IndexedStore(await settled(request));
  } catch {
    return new MemoryStore();
  }
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const newestFirst = (conversations) => conversations.sort((a, b) => b.updated - a.updated);

class IndexedStore {
  isKept = true;

  constructor(database) {
    this.database = database;
  }

  objects(mode) {
    return this.database.transaction(STORE, mode).objectStore(STORE);
  }

  async all() {
    return newestFirst(await settled(this.objects("readonly").getAll()));
  }

  async get(id) {
    return settled(this.objects("readonly").get(id));
  }

  async put(conversation) {
    await settled(this.objects("readwrite").put(conversation));
  }

  async remove(id) {
    await settled(this.objects("readwrite").delete(id));
  }

  async clear() {
    await settled(this.objects("readwrite").clear());
  }
}

class MemoryStore {
  isKept = false;
  conversations = new Map();

  async all() {
    return newestFirst([...this.conversations.values()]);
  }

  async get(id) {
    return this.conversations.get(id);
  }

  async put(conversation) {
    this.conversations.set(conversation.id, structuredClone(conversation));
  }

  async remove(id) {
    this.conversations.delete(id);
  }

  async clear() {
    this.conversations.clear();
  }
}

/** @returns a new conversation without messages */
export function newConversation() {
  return { id: `${Date.now().toString(36)}-${Math.random().toString(36).slice(2, 10)}`, title: "", updated: Date.now(), messages: [] };
}
