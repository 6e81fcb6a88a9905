// SPDX-License-Identifier: Apache-2.0
// The node: whether all is well, what was done to the tables, and who else has changed them.

import {get} from './api.js';
import {clock, h, keepFocus, milliseconds, number, replace, s} from './dom.js';

const pace = 5000;

export function nodeView({root, store, go}) {
  let node = null, version = null, problem = '';
  let closed = false;
  const cards = h('section', {class: 'cards', 'aria-label': 'State'});
  const chart = h('figure', {class: 'chart'});
  const others = h('section', {'aria-label': 'Others'});
  const list = h('section', {'aria-label': 'Transactions'});
  replace(root, h('div', {class: 'title'}, h('h1', {}, 'Node')), cards, chart, h('div', {class: 'halves wide-left'}, list, others));
  const title = root.querySelector('h1');

  async function load() {
    try {
      [node, version] = await Promise.all([get('node'), version ?? get('version')]);
      problem = '';
    } catch (e) {
      problem = e.message;
    }
    if (!closed) drawCards();
  }

  function card(label, value, note, tone, extra) {
    return h('div', {class: `card ${tone ?? ''}`}, h('span', {class: 'label'}, label), h('span', {class: 'value'}, value), note && h('span', {class: 'note'}, note), extra);
  }

  function drawCards() {
    if (problem || !node) {
      replace(cards, card('nftproxy', problem ? 'does not answer' : '…', problem, problem ? 'bad' : ''));
      return;
    }
    replace(title, node.name, node.zone && h('span', {class: 'note'}, `zone ${node.zone}`));
    const c = node.conntrack, fill = c?.limit ? c.entries / c.limit : 0;
    const bar = c?.limit ? h('span', {class: 'meter', 'aria-hidden': 'true'}, h('span', {class: 'fill'})) : null;
    if (bar) bar.firstChild.style.width = Math.max(0.5, 100 * fill) + '%';
    const d = store.driftState;
    keepFocus(cards, () => replace(cards,
      card('nftproxy', node.healthy ? 'healthy' : 'not healthy', version && `${version.version} · table ${version.table}`, node.healthy ? 'good' : 'bad'),
      card('Services', number(node.services), node.refused ? `${number(node.refused)} refused by the kernel` : 'none refused by the kernel', node.refused ? 'bad' : ''),
      d && card('Drift', d.equal ? 'none' : 'yes', d.equal ? (d.compared ? `all was compared at ${clock(d.compared)}` : 'as far as is known') : `${d.why}, since ${clock(d.since)}`, d.equal ? 'good' : 'bad'),
      card('Connection tracking', c ? (c.limit ? `${(100 * fill).toFixed(fill < 0.1 ? 1 : 0)} %` : number(c.entries)) : 'not known', c && (c.limit ? `${number(c.entries)} of ${number(c.limit)}` : 'no limit'), fill > 0.8 ? 'bad' : fill > 0.6 ? 'warn' : '', bar),
      lastCard()));
  }

  function lastCard() {
    const t = store.transactions.at(-1);
    return card('Last change', t ? clock(t.at) : 'none', t && `took ${milliseconds(t.tookMilliseconds)}` + (t.delayMilliseconds ? `, ${milliseconds(t.delayMilliseconds)} after its EndpointSlice` : ''));
  }

  function draw() {
    drawCards();
    drawChart();
    drawList();
    drawOthers();
  }

  function drawChart() {
    const all = store.transactions;
    replace(chart, h('figcaption', {}, h('h2', {}, 'Transactions', h('span', {class: 'note'}, all.length ? `the last ${number(all.length)}: how long each took` : '')),
      h('span', {class: 'legend'}, h('span', {class: 'dot good'}), 'changes', h('span', {class: 'dot warn'}), 'repairs', h('span', {class: 'dot bad'}), 'refused')),
    all.length ? dots(all, chart.clientWidth) : h('p', {class: 'empty'}, 'None yet.'));
  }

  function drawList() {
    const most = 100;
    const rows = store.transactions.slice(-most).reverse();
    replace(list, h('h2', {}, 'What was done'), h('ol', {class: 'history'}, rows.map((t) => h('li', {}, h('time', {datetime: t.at}, clock(t.at)), h('div', {}, words(t, go)),
      h('span', {class: 'note', title: 'how long it took, and how long after the EndpointSlice was changed'}, milliseconds(t.tookMilliseconds), t.delayMilliseconds ? ` / ${milliseconds(t.delayMilliseconds)}` : '')))));
  }

  function drawOthers() {
    const by = new Map();
    for (const t of store.transactions) {
      if (!t.by) continue;
      const known = by.get(t.by) ?? {n: 0};
      by.set(t.by, {n: known.n + 1, last: t});
    }
    replace(others, h('h2', {}, 'Who else changed the tables'), by.size === 0 ? h('p', {class: 'empty'}, 'Nobody, in these transactions.') :
      h('ul', {class: 'history'}, [...by].reverse().map(([who, {n, last}]) => h('li', {}, h('time', {datetime: last.at}, clock(last.at)), h('div', {}, h('b', {}, who), h('div', {class: 'muted'}, last.repairs ? `repaired: ${last.repairs}` : last.why)), h('span', {class: 'note'}, n === 1 ? 'once' : `${n} times`)))));
  }

  store.addEventListener('transactions', draw);
  store.addEventListener('drift', drawCards);
  const timer = setInterval(() => { if (!document.hidden) load(); }, pace);
  let width = 0;
  const resized = new ResizeObserver(() => {
    if (chart.clientWidth !== width) drawChart();
    width = chart.clientWidth;
  });
  resized.observe(chart);
  draw();
  load();
  return {close() {
    closed = true;
    clearInterval(timer);
    resized.disconnect();
    store.removeEventListener('transactions', draw);
    store.removeEventListener('drift', drawCards);
  }};
}

const kind = (t) => (t.refused ? 'bad' : t.by || t.repairs ? 'warn' : 'good');

// words says what a transaction was for.
function words(t, go) {
  const most = 3;
  const ports = (t.ports ?? []).slice(0, most).map((p) => h('div', {}, h('a', {href: go('service', p.namespace, p.name)}, `${p.namespace}/${p.name}`), p.port ? `:${p.port}` : '', ' ',
    p.cameCount ? h('span', {class: 'came'}, `+${p.cameCount}`) : '', ' ', p.wentCount ? h('span', {class: 'went'}, `−${p.wentCount}`) : '', h('span', {class: 'note'}, `${p.endpointsUsed} used`)));
  const rest = (t.servicePorts ?? 0) - ports.length;
  return [ports.length ? ports : h('div', {}, t.why, t.servicePorts ? h('span', {class: 'note'}, `${number(t.servicePorts)} service ports`) : null),
    ports.length > 0 && rest > 0 && h('div', {class: 'muted'}, `and ${number(rest)} more`),
    t.by && h('div', {}, 'changed by ', h('b', {}, t.by)), t.repairs && h('div', {class: 'muted'}, `repaired: ${t.repairs}`), t.refused && h('div', {class: 'problem'}, t.refused)];
}

// dots shows transactions over time, by how long they took.
function dots(all, width) {
  const height = 150, left = 52, bottom = 22, top = 8, right = 8;
  const first = Date.parse(all[0].at), last = Math.max(Date.now(), Date.parse(all.at(-1).at));
  const span = Math.max(60000, last - first);
  const took = all.map((t) => Math.max(0.1, t.tookMilliseconds));
  const low = Math.log10(Math.min(1, ...took)), high = Math.max(Math.log10(Math.max(...took)), low + 1) + 0.1;
  const x = (t) => left + (Date.parse(t) - (last - span)) / span * (width - left - right);
  const y = (ms) => top + (1 - (Math.log10(Math.max(0.1, ms)) - low) / (high - low)) * (height - top - bottom);
  const lines = [];
  for (let p = Math.ceil(low); p <= high; p++) {
    lines.push(s('path', {class: 'grid', d: `M${left} ${y(10 ** p).toFixed(1)}H${width - right}`}), s('text', {class: 'sub end', x: left - 6, y: y(10 ** p) + 4}, milliseconds(10 ** p).replace('.0', '')));
  }
  const ticks = width < 500 ? 2 : 5;
  for (let i = 0; i <= ticks; i++) {
    const at = last - span + span * i / ticks;
    lines.push(s('text', {class: i === ticks ? 'sub end' : i ? 'sub middle' : 'sub', x: left + (width - left - right) * i / ticks, y: height - 5}, new Date(at).toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', second: span < 600000 ? '2-digit' : undefined, hour12: false})));
  }
  const slow = Math.max(...took);
  return s('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${all.length} transactions since ${clock(all[0].at)}; the slowest took ${milliseconds(slow)}`}, lines,
    all.map((t) => s('circle', {class: kind(t), cx: x(t.at).toFixed(1), cy: y(t.tookMilliseconds).toFixed(1), r: 3}, s('title', {}, `${clock(t.at)}: ${milliseconds(t.tookMilliseconds)}, ${t.why}`))));
}
