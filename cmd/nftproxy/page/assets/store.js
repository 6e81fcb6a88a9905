// SPDX-License-Identifier: Apache-2.0
// What is known of the node's Services and transactions, kept up to date by a Watch.

import {get, pages, part, Watch} from './api.js';

const mostTransactions = 1000;
const mostSingly = 40; // Services that are asked for one by one
const reloadPace = 5000; // milliseconds between two readings of everything
const countPace = 2000;
const countsKept = 40;
const lookPace = 10000;

// summary is a Service as the list shows it.
export function summary(service) {
  const ports = service.ports;
  const worst = ports.reduce((a, p) => (!a || p.endpointsUsed < a.endpointsUsed ? p : a), null);
  const states = new Set(ports.map((p) => p.state));
  const state = ['refused', 'conflict', 'no endpoints'].find((x) => states.has(x)) ?? 'ok';
  const frontends = [...new Set(ports.flatMap((p) => p.frontends.map((f) => (f.includes(':') ? f : 'node:' + f) + '/' + p.protocol)))];
  const row = {
    key: service.namespace + '/' + service.name, namespace: service.namespace, name: service.name, type: service.type, service, frontends, state, states,
    scheduler: [...new Set(ports.map((p) => p.scheduler))].join(', '),
    used: worst?.endpointsUsed ?? 0, ready: worst?.endpointsReady ?? 0, all: worst?.endpoints ?? 0,
  };
  row.text = [row.key, row.type, row.scheduler, ...ports.map((p) => p.port ?? ''), ...frontends].join(' ').toLowerCase();
  return row;
}

// element is a frontend as it is the key of an element in nft's texts.
function element(frontend, protocol) {
  const at = frontend.lastIndexOf(':');
  const address = at < 0 ? [] : [frontend.slice(0, at).replace(/^\[|\]$/g, '')];
  return [...address, protocol, frontend.slice(at + 1)].join(' . ');
}

export class Store extends EventTarget {
  services = new Map();
  transactions = [];
  loaded = false;
  live = false;
  error = null;
  driftState = null; // what the node knows of differences; null: it does not tell
  drift = null; // keys of Services that the kernel does not hold as it should; null: nobody has looked
  rates = null; // new connections a second by key, the oldest first; null: they are not counted
  #watch = null;
  #closed = false;
  #reading = false;
  #again = false;
  #readAt = 0;
  #timers = [];
  #counted = null;
  #uncounted = false;
  #undrifted = false;

  open() {
    this.#watch = new Watch({
      state: (live) => {
        this.live = live;
        this.tell('live');
        if (!live && !this.loaded) this.#read(); // perhaps all but watching works
      },
      change: (c) => this.#change(c),
    });
    this.#timers.push(setInterval(() => this.#count(), countPace), setInterval(() => this.#look(), lookPace));
    this.#count();
    this.#look();
    return this;
  }

  close() {
    this.#closed = true;
    this.#watch.close();
    this.#timers.forEach(clearInterval);
  }

  // rest stops watching while nobody looks, and goes on from there.
  rest(yes) {
    if (yes) this.#watch.close();
    else this.#watch.open();
  }

  tell(what, detail) { this.dispatchEvent(new CustomEvent(what, {detail})); }

  async #change(c) {
    if (c.all) {
      this.#read();
      this.#readTransactions(0);
      this.tell('changed', null);
      return;
    }
    if (c.missed) await this.#readTransactions(this.transactions.at(-1)?.number ?? 0);
    else this.#addTransactions(c.transactions);
    if (c.services.length > mostSingly) this.#read();
    else await Promise.all(c.services.map((key) => this.refresh(key)));
    this.tell('changed', new Set(c.services));
  }

  // refresh asks for one Service anew.
  async refresh(key) {
    const [namespace, name] = key.split('/');
    try {
      this.services.set(key, summary(await get(`services/${part(namespace)}/${part(name)}`)));
    } catch (e) {
      if (e.status === 404) this.services.delete(key);
    }
    this.tell('services');
  }

  // #read reads all Services, not too often.
  async #read() {
    if (this.#reading) { this.#again = true; return; }
    this.#reading = true;
    const wait = this.#readAt + reloadPace - Date.now();
    if (wait > 0 && this.loaded) await new Promise((done) => setTimeout(done, wait));
    this.#readAt = Date.now();
    try {
      const all = new Map();
      await pages('services', {}, (page) => {
        for (const service of page.services) {
          const row = summary(service);
          all.set(row.key, row);
        }
        if (!this.loaded) { // show what there is already
          this.services = new Map(all);
          this.tell('services');
        }
      });
      this.services = all;
      this.loaded = true;
      this.error = null;
    } catch (e) {
      this.error = e;
      if (!this.#closed) setTimeout(() => this.#read(), reloadPace);
    }
    this.#reading = false;
    this.tell('services');
    if (this.#again && !this.#closed) {
      this.#again = false;
      this.#read();
    }
  }

  async #readTransactions(after) {
    try {
      const list = [];
      await pages('transactions', {continue: String(after)}, (page) => list.push(...page.transactions));
      if (after === 0) this.transactions = [];
      this.#addTransactions(list);
    } catch { /* they come with the next change */ }
  }

  #addTransactions(list) {
    const last = this.transactions.at(-1)?.number ?? 0;
    const fresh = list.filter((t) => t.number > last);
    if (!fresh.length) return;
    this.transactions = [...this.transactions, ...fresh].slice(-mostTransactions);
    this.tell('transactions');
  }

  // #count asks how many connections there were, where they are counted. A node whose API does not tell is not asked again.
  async #count() {
    if (document.hidden || this.#uncounted) return;
    let answer;
    try {
      answer = await get('counts');
    } catch (e) {
      this.#uncounted = e.status === 404;
      return;
    }
    if (!answer.counted) return;
    const at = Date.parse(answer.at), now = new Map();
    for (const c of answer.counts) {
      const key = c.namespace + '/' + c.name;
      now.set(key, (now.get(key) ?? 0) + c.newConnections);
    }
    const before = this.#counted;
    if (before && at === before.at) return;
    this.#counted = {at, now};
    this.rates ??= new Map();
    if (!before) { this.tell('rates'); return; }
    const seconds = (at - before.at) / 1000;
    for (const [key, n] of now) {
      const fresh = n - (before.now.get(key) ?? 0);
      const list = this.rates.get(key) ?? [];
      list.push(Math.max(0, fresh) / seconds);
      this.rates.set(key, list.slice(-countsKept));
    }
    for (const key of this.rates.keys()) if (!now.has(key)) this.rates.delete(key);
    this.tell('rates');
  }

  // #named returns the Services that differences name: by a chain of theirs, or a frontend.
  #named(differences) {
    const keys = new Set(), fronts = new Map();
    for (const row of this.services.values()) {
      for (const p of row.service.ports) for (const f of p.frontends) fronts.set(element(f, p.protocol), row.key);
    }
    for (const d of differences) {
      const text = [d.object, ...(d.have ?? []), ...(d.want ?? [])].join('\n');
      for (const m of text.matchAll(/\b[a-z-]+\/([a-z0-9.-]+)\/([a-z0-9.-]+)/g)) if (this.services.has(m[1] + '/' + m[2])) keys.add(m[1] + '/' + m[2]);
      for (const m of text.matchAll(/(?:[0-9a-f:.]+ \. )?(?:tcp|udp|sctp) \. \d+/g)) if (fronts.has(m[0])) keys.add(fronts.get(m[0]));
    }
    return keys;
  }

  // #look asks whether the kernel holds what it should, and of which Services it does not.
  async #look() {
    if (document.hidden || this.#undrifted) return;
    try {
      this.driftState = await get('drift');
      let keys = new Set();
      if (!this.driftState.equal) {
        const diff = await get('diff');
        keys = this.#named(diff.differences);
      }
      this.drift = keys;
    } catch (e) {
      this.#undrifted = e.status === 404;
      return;
    }
    this.tell('drift');
  }
}
