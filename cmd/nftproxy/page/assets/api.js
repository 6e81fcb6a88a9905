// SPDX-License-Identifier: Apache-2.0
// What is asked, and where.

const base = location.pathname.replace(/[^/]*$/, '');
let node = 0;

// useNode says which node is asked from now on.
export function useNode(n) { node = n; }

async function ask(path) {
  const answer = await fetch(base + path, {headers: {Accept: 'application/json'}});
  const text = await answer.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Error(answer.ok ? 'the answer cannot be read' : `${answer.status}: ${text.slice(0, 200)}`);
  }
  if (answer.ok) return value;
  const e = new Error(value.error || `status ${answer.status}`);
  e.status = answer.status;
  throw e;
}

export const nodes = () => ask('nodes');

// get asks the node for a path of its API, with a query.
export function get(path, query) {
  const q = new URLSearchParams(query ?? {}).toString();
  return ask(`api/${node}/v1/${path}${q ? '?' + q : ''}`);
}

// pages asks for all pages of a list, and calls add with each.
export async function pages(path, query, add) {
  for (let next = query.continue ?? ''; ;) {
    const page = await get(path, {limit: 1000, ...query, ...(next ? {continue: next} : {})});
    add(page);
    if (!page.continue) return;
    next = page.continue;
  }
}

// part is a name as it is in a path.
export const part = encodeURIComponent;

// Watch tells of changes, until it is closed. It goes on by itself where it was when the connection is lost.
export class Watch {
  #source = null;
  #last = '';
  #again = 0;
  #wait = 1000;
  constructor(on) {
    this.on = on;
    this.open();
  }

  open() {
    this.close();
    const source = new EventSource(`${base}api/${node}/v1/watch${this.#last ? '?after=' + part(this.#last) : ''}`);
    this.#source = source;
    source.addEventListener('open', () => { this.#wait = 1000; this.on.state(true); });
    source.addEventListener('change', (e) => {
      this.#last = e.lastEventId;
      this.on.change(JSON.parse(e.data));
    });
    source.addEventListener('error', () => {
      this.on.state(false);
      source.close();
      clearTimeout(this.#again);
      this.#again = setTimeout(() => this.open(), this.#wait);
      this.#wait = Math.min(2 * this.#wait, 15000);
    });
  }

  close() {
    clearTimeout(this.#again);
    this.#source?.close();
    this.#source = null;
  }
}

// follow follows connections to a Service; on.began, on.connection, on.lost and on.ended are called. It returns what ends that.
export function follow(service, at, on) {
  const query = new URLSearchParams({service, ...(at ? {at} : {})});
  const url = `${base}trace/${node}?${query}`;
  const source = new EventSource(url);
  let over = false;
  const end = (why) => {
    if (over) return;
    over = true;
    source.close();
    on.ended(why);
  };
  source.addEventListener('began', () => on.began());
  source.addEventListener('connection', (e) => on.connection(JSON.parse(e.data)));
  source.addEventListener('lost', (e) => on.lost(Number(e.data)));
  source.addEventListener('ended', (e) => end(JSON.parse(e.data)));
  source.addEventListener('error', async () => {
    if (over) return;
    source.close();
    let why = 'the connection was lost';
    try { // an event source does not tell why it was refused
      const stop = new AbortController();
      const answer = await fetch(url, {signal: stop.signal});
      if (answer.ok) stop.abort();
      else why = (await answer.json()).error ?? why;
    } catch { /* nobody answers */ }
    end(why);
  });
  return () => { over = true; source.close(); };
}
