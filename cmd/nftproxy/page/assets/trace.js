// SPDX-License-Identifier: Apache-2.0
// Connections to a Service as they come, and what becomes of each.

import {follow} from './api.js';
import {h, keepFocus, number, replace} from './dom.js';

const kept = 300; // connections
const offered = 12; // Services, while a name is typed

export function traceView({root, store, go, rest, about}) {
  const service = rest.length >= 2 ? rest[0] + '/' + rest[1] : '';
  const at = rest[2] ?? '';
  let stop = null, why = '', lost = 0, total = 0;
  let lines = [], counts = new Map(), due = 0;

  const found = h('ul', {class: 'found', id: 'found', role: 'listbox', 'aria-label': 'Services'});
  const search = h('input', {type: 'search', role: 'combobox', 'aria-controls': 'found', 'aria-expanded': 'false', 'aria-label': 'Service to follow', placeholder: 'Service: NAMESPACE/NAME', value: service, spellcheck: 'false', autocomplete: 'off',
    oninput: offer, onkeydown: (e) => {
      const links = [...found.querySelectorAll('a')];
      if (e.key === 'Enter') (links.find((a) => a.textContent === search.value) ?? links[0])?.click();
      else if (e.key === 'ArrowDown') links[0]?.focus();
      else if (e.key === 'Escape') replace(found);
      else return;
      e.preventDefault();
    }});
  const tools = h('div', {class: 'tools'});
  const told = h('p', {class: 'remark', role: 'status'});
  const shares = h('div', {class: 'shares'});
  const table = h('tbody');
  replace(root, h('div', {class: 'title'}, h('h1', {}, 'Trace'), h('span', {class: 'note'}, 'follows new connections through every table of this node')),
    h('div', {class: 'finder'}, search, found), tools, told, shares,
    h('div', {class: 'wide'}, h('table', {class: 'connections', 'aria-label': 'Connections, the newest first'}, h('thead', {}, h('tr', {}, ['Time', 'From', 'To', 'Endpoint', 'What became of it'].map((c) => h('th', {scope: 'col'}, c)))), table)));

  function offer() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const list = [];
    for (const row of store.services.values()) {
      if (words.every((w) => row.text.includes(w)) && list.push(row) === offered) break;
    }
    search.setAttribute('aria-expanded', String(list.length > 0));
    replace(found, list.map((row) => h('li', {role: 'option'}, h('a', {href: go('trace', row.namespace, row.name)}, row.key))));
  }

  function drawTools() {
    const row = store.services.get(service);
    const frontends = [...new Set((row?.service.ports ?? []).flatMap((p) => p.frontends).filter((f) => f.includes(':')))];
    keepFocus(tools, () => replace(tools,
      service && about.trace && h('button', {type: 'button', class: stop ? 'action' : 'action first', 'data-key': 'go', onclick: () => (stop ? end('') : begin())}, stop ? 'Stop' : 'Follow'),
      frontends.length > 1 && h('label', {}, h('span', {class: 'label'}, 'To'), h('select', {'data-key': 'at', onchange: (e) => { location.hash = e.target.value ? go('trace', ...rest.slice(0, 2), e.target.value) : go('trace', ...rest.slice(0, 2)); }},
        h('option', {value: ''}, 'all its addresses'), frontends.map((f) => h('option', {value: f, selected: f === at}, f)))),
      service && h('a', {href: go('service', ...rest.slice(0, 2)), 'data-key': 'service'}, 'The Service')));
  }

  function begin() {
    why = '';
    [lines, counts, lost, total] = [[], new Map(), 0, 0];
    stop = follow(service, at, {
      began: later,
      connection: (c) => {
        total++;
        lines.unshift(c);
        lines.length = Math.min(lines.length, kept);
        const to = c.outcome === 'answered' && c.endpoint ? c.endpoint : c.endpoint ? `${c.endpoint}: ${c.outcome}` : c.outcome;
        counts.set(to, {n: (counts.get(to)?.n ?? 0) + 1, bad: c.outcome !== 'answered'});
        later();
      },
      lost: (n) => { lost += n; total += n; later(); },
      ended: end,
    });
    draw();
  }

  function end(reason) {
    stop?.();
    stop = null;
    why = reason;
    draw();
  }

  function later() { due ||= requestAnimationFrame(() => { due = 0; draw(); }); }

  function draw() {
    drawTools();
    replace(told, state());
    told.className = why ? 'problem' : 'remark';
    const list = [...counts].sort((a, b) => b[1].n - a[1].n).slice(0, 20);
    const most = Math.max(1, ...list.map(([, c]) => c.n));
    replace(shares, list.map(([to, c]) => {
      const fill = h('span', {class: 'fill'});
      fill.style.width = 100 * c.n / most + '%';
      return h('div', {class: c.bad ? 'bad' : ''}, h('span', {class: 'mono'}, to), h('span', {class: 'meter', 'aria-hidden': 'true'}, fill), h('span', {class: 'figures'}, number(c.n)));
    }));
    replace(table, lines.map((c) => h('tr', {class: c.outcome === 'answered' ? '' : 'failed'}, h('td', {}, c.time.slice(11, 23)), h('td', {class: 'mono'}, c.from), h('td', {class: 'mono'}, `${c.to}/${c.protocol}`), h('td', {class: 'mono'}, c.endpoint ?? '–'),
      h('td', {title: (c.chains ?? []).join('\n')}, c.text))));
  }

  function state() {
    if (why) return why;
    if (!about.trace) return 'Connections on this node cannot be followed from here.';
    if (!service) return 'Choose a Service. Packets are not changed by it; the node spends a little time on each new connection while you look.';
    if (!stop) return 'Not following.';
    if (!total) return 'Following: no connection yet.';
    return `Following: ${number(total)} connections` + (lost ? `, of which ${number(lost)} came too fast to be shown.` : '.');
  }

  const listed = () => {
    drawTools();
    if (document.activeElement === search && search.value && search.value !== service) offer();
  };
  store.addEventListener('services', listed);
  if (service && about.trace) begin();
  else draw();
  if (!service) search.focus();
  return {close() {
    stop?.();
    cancelAnimationFrame(due);
    store.removeEventListener('services', listed);
  }};
}
