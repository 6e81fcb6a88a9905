// SPDX-License-Identifier: Apache-2.0
// All Services: a list of which only the rows in sight exist.

import {badge, h, keepFocus, number, replace, choice, tone} from './dom.js';
import {sparkline} from './spark.js';

const columns = [
  ['name', 'Service', (a, b) => compare(a.key, b.key)],
  ['type', 'Type', (a, b) => compare(a.type, b.type)],
  ['frontend', 'Frontends', (a, b) => compare(a.frontends[0] ?? '', b.frontends[0] ?? '')],
  ['scheduler', 'Scheduler', (a, b) => compare(a.scheduler, b.scheduler)],
  ['endpoints', 'Endpoints', (a, b) => a.used - b.used || a.all - b.all],
  ['rate', 'New/s', (a, b) => a.rate - b.rate],
  ['state', 'State', (a, b) => order(a.state) - order(b.state)],
];
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const order = (state) => ['ok', 'no endpoints', 'conflict', 'drift', 'refused'].indexOf(state);
const margin = 8; // rows that are made above and below those in sight

// kept is what stays chosen when another view is looked at meanwhile.
const kept = {text: '', filter: 'all', sort: 'name', down: false, at: '', top: 0};

export function listView({root, store, go}) {
  let rows = [];
  let active = 0;
  let drawn = '';
  const search = h('input', {type: 'search', placeholder: 'Search: name, address, port, type', 'aria-label': 'Search Services', value: kept.text, spellcheck: 'false', autocomplete: 'off',
    oninput: () => { kept.text = search.value; kept.top = scroller.scrollTop = 0; choose(); }, onkeydown: (e) => { if (e.key === 'ArrowDown' || e.key === 'Enter') { scroller.focus(); e.preventDefault(); } }});
  const filters = h('div', {class: 'filters'});
  const told = h('span', {class: 'told', role: 'status'});
  const head = h('div', {class: 'row head', role: 'row'});
  const space = h('div', {class: 'space', role: 'rowgroup'});
  const scroller = h('div', {class: 'scroller', tabindex: 0, role: 'grid', 'aria-label': 'Services', 'aria-colcount': columns.length, onscroll: () => { kept.top = scroller.scrollTop; draw(); }, onkeydown: key, onfocus: () => draw(true), onblur: () => draw(true)},
    h('div', {role: 'rowgroup', class: 'headgroup'}, head), space);
  replace(root, h('div', {class: 'tools'}, search, filters, told), scroller);

  // height is that of a row, as the style has it.
  const height = () => Number.parseFloat(getComputedStyle(scroller).getPropertyValue('--row')) || 32;

  function stateOf(row) { return store.drift?.has(row.key) && row.state !== 'refused' ? 'drift' : row.state; }

  function choose() {
    const words = kept.text.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...store.services.values()];
    const counts = {all: all.length, 'no endpoints': 0, conflict: 0, refused: 0, drift: 0};
    for (const row of all) {
      for (const state of row.states) if (state in counts) counts[state]++;
      if (store.drift?.has(row.key)) counts.drift++;
      row.rate = store.rates?.get(row.key)?.at(-1) ?? 0;
    }
    const filter = kept.filter;
    const passes = (row) => (filter === 'all' || row.states.has(filter) || filter === 'drift' && store.drift?.has(row.key)) && words.every((w) => row.text.includes(w));
    rows = all.filter(passes);
    const by = columns.find(([id]) => id === kept.sort)[2];
    rows.sort((a, b) => (kept.down ? -by(a, b) : by(a, b)) || compare(a.key, b.key));
    active = Math.max(0, rows.findIndex((r) => r.key === kept.at));
    const options = Object.entries(counts).filter(([state]) => state !== 'drift' || store.drift).map(([state, n]) => [state, state === 'all' ? 'All' : state[0].toUpperCase() + state.slice(1), number(n)]);
    keepFocus(filters, () => replace(filters, choice('Filter', options, filter, (f) => { kept.filter = f; kept.top = scroller.scrollTop = 0; choose(); })));
    replace(told, rows.length === all.length ? '' : `${number(rows.length)} found`);
    scroller.setAttribute('aria-rowcount', rows.length + 1);
    root.classList.toggle('counted', store.rates !== null);
    drawHead();
    draw(true);
  }

  function drawHead() {
    keepFocus(head, () => replace(head, columns.map(([id, title]) => h('div', {class: id, role: 'columnheader', 'aria-sort': kept.sort === id ? (kept.down ? 'descending' : 'ascending') : 'none'},
      h('button', {type: 'button', 'data-key': id, tabindex: -1, onclick: () => {
        kept.down = kept.sort === id ? !kept.down : id === 'rate' || id === 'state';
        kept.sort = id;
        choose();
      }}, title, h('span', {class: 'arrow', 'aria-hidden': 'true'}, kept.sort === id ? (kept.down ? '↓' : '↑') : ''))))));
  }

  // draw makes the rows in sight.
  function draw(anew) {
    const each = height();
    const from = Math.max(0, Math.floor(scroller.scrollTop / each) - margin);
    const to = Math.min(rows.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / each) + margin);
    const range = `${from}-${to}`;
    if (!anew && range === drawn) return;
    drawn = range;
    space.style.height = rows.length * each + 'px';
    if (!rows.length) {
      replace(space, h('p', {class: 'empty'}, empty()));
      scroller.removeAttribute('aria-activedescendant');
      return;
    }
    const focused = document.activeElement === scroller;
    replace(space, rows.slice(from, to).map((row, i) => line(row, from + i, each, focused && from + i === active)));
    if (active >= from && active < to) scroller.setAttribute('aria-activedescendant', 'row-' + active);
    else scroller.removeAttribute('aria-activedescendant');
  }

  function empty() {
    if (store.error) return `The node does not answer: ${store.error.message}`;
    if (!store.loaded) return 'Reading …';
    return store.services.size ? 'No Service is like that.' : 'This node serves no Service.';
  }

  function line(row, i, each, chosen) {
    const state = stateOf(row);
    const cell = (id, ...children) => h('div', {class: id, role: 'gridcell'}, ...children);
    const more = row.frontends.length - 1;
    const e = h('div', {class: chosen ? 'row chosen' : 'row', role: 'row', id: 'row-' + i, 'aria-rowindex': i + 2, 'data-service': row.key, onclick: (event) => { if (!event.target.closest('a')) location.hash = go('service', row.namespace, row.name); }},
      cell('name', h('span', {class: `dot ${tone(state)}`, 'aria-hidden': 'true'}), h('a', {href: go('service', row.namespace, row.name), tabindex: -1}, h('span', {class: 'space-name'}, row.namespace + '/'), row.name)),
      cell('type', row.type),
      cell('frontend mono', row.frontends[0] ?? '', more > 0 && h('span', {class: 'note', title: row.frontends.slice(1).join('\n')}, `+${more}`)),
      cell('scheduler', row.scheduler),
      cell('endpoints', meter(row.used, row.all), h('span', {class: 'figures', title: `${row.used} get new connections from this node, ${row.ready} are ready, there are ${row.all}`}, `${row.used}/${row.ready}/${row.all}`)),
      cell('rate', store.rates && sparkline(store.rates.get(row.key) ?? [])),
      cell('state', badge(state)));
    e.style.top = i * each + 'px';
    return e;
  }

  function key(e) {
    const page = Math.max(1, Math.floor(scroller.clientHeight / height()) - 2);
    const move = {ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity, j: 1, k: -1}[e.key];
    if (e.key === 'Enter' && rows[active]) {
      location.hash = go('service', rows[active].namespace, rows[active].name);
    } else if (move === undefined || e.target !== scroller || e.ctrlKey || e.metaKey) {
      return;
    } else {
      active = Math.min(rows.length - 1, Math.max(0, active + move));
      kept.at = rows[active]?.key ?? '';
      const each = height(), top = active * each, room = scroller.clientHeight - head.offsetHeight;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + each > scroller.scrollTop + room) scroller.scrollTop = top + each - room;
      draw(true);
    }
    e.preventDefault();
  }

  let due = 0;
  const later = () => { due ||= requestAnimationFrame(() => { due = 0; choose(); }); };
  const heard = ['services', 'rates', 'drift'];
  heard.forEach((what) => store.addEventListener(what, later));
  const resized = new ResizeObserver(() => draw(true));
  resized.observe(scroller);
  choose();
  scroller.scrollTop = kept.top;
  return {close() { heard.forEach((what) => store.removeEventListener(what, later)); resized.disconnect(); cancelAnimationFrame(due); }};
}

// meter shows which part of the endpoints is used.
function meter(used, all) {
  const fill = h('span', {class: 'fill'});
  fill.style.width = all ? Math.max(used ? 6 : 0, 100 * used / all) + '%' : '0';
  return h('span', {class: used ? 'meter' : 'meter none', 'aria-hidden': 'true'}, fill);
}
