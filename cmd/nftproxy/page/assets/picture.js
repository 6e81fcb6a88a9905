// SPDX-License-Identifier: Apache-2.0
// A packet's way: client, frontend, policy, scheduler, and endpoints by node and zone.

import {s} from './dom.js';
import {percent} from './service.js';

const narrow = 720; // pixels below which it goes from top to bottom
const rowHeight = 36, headHeight = 26, gap = 10;
const mostRows = 8, mostGroups = 8; // of a group, and groups

// reach returns which endpoints a client's connections go to, and their shares from 0 to 1.
export function reach(port, client) {
  const to = new Set((client?.to ?? []).map((t) => t.address));
  const list = port.endpoints.filter((e) => to.has(e.address));
  const local = list.length < port.endpoints.filter((e) => e.cluster).length && list.every((e) => e.local);
  const shares = new Map(list.map((e) => [e.address, (local ? e.localShare : e.clusterShare) ?? 0]));
  const sum = [...shares.values()].reduce((a, b) => a + b, 0);
  for (const [a, share] of shares) shares.set(a, sum > 0.001 ? share / sum : 1 / shares.size);
  return shares;
}

// groups sorts endpoints by node: this one first, then its zone.
function groups(port, node, shares) {
  const all = new Map();
  for (const e of port.endpoints) {
    const key = JSON.stringify([e.node ?? '', e.zone ?? '']);
    if (!all.has(key)) all.set(key, {node: e.node ?? '', zone: e.zone ?? '', here: e.onThisNode, list: []});
    all.get(key).list.push(e);
  }
  const rank = (g) => (g.here ? 0 : node.zone && g.zone === node.zone ? 1 : 2);
  const list = [...all.values()].sort((a, b) => rank(a) - rank(b) || (a.zone + '\0' + a.node < b.zone + '\0' + b.node ? -1 : 1));
  const shown = list.slice(0, mostGroups);
  for (const g of shown) {
    g.list.sort((a, b) => shares.has(b.address) - shares.has(a.address) || (a.address < b.address ? -1 : 1));
    g.rows = g.list.slice(0, g.list.length > mostRows ? mostRows - 1 : mostRows).map((e) => ({endpoint: e, share: shares.get(e.address)}));
    const rest = g.list.slice(g.rows.length);
    if (rest.length) g.rows.push(more(rest, shares, `${rest.length} more endpoints`));
  }
  const rest = list.slice(mostGroups).flatMap((g) => g.list);
  if (rest.length) shown.push({node: `${list.length - mostGroups} more nodes`, zone: '', rows: [more(rest, shares, `${rest.length} endpoints`)]});
  return shown;
}

function more(list, shares, text) {
  const used = list.filter((e) => shares.has(e.address));
  return {text, note: `${used.length} used`, share: used.length ? used.reduce((sum, e) => sum + shares.get(e.address), 0) : undefined};
}

// fit cuts a text to so many pixels.
function fit(text, width, each) {
  const most = Math.max(4, Math.floor(width / each));
  return text.length <= most ? text : text.slice(0, most - 1) + '…';
}

function text(x, y, value, width, attributes, each = 6.7) {
  const cut = fit(value, width, each);
  return s('text', {x, y, ...attributes}, cut, cut !== value && s('title', {}, value));
}

function box(x, y, width, height, label, value, notes, attributes) {
  return s('g', {class: 'box', ...attributes}, s('rect', {x, y, width, height, rx: 7}), text(x + 11, y + 17, label, width - 20, {class: 'label'}, 6),
    text(x + 11, y + 36, value, width - 20, {class: 'value'}, 7.3), notes.map((n, i) => text(x + 11, y + 53 + 15 * i, n, width - 20, {class: 'sub'}, 5.9)));
}

// steps are the boxes before the endpoints.
function steps(port, frontend, client) {
  const answered = client?.outcome === 'answer';
  const external = frontend?.kind !== 'ClusterIP';
  const policy = external ? port.externalTrafficPolicy : port.internalTrafficPolicy;
  const sender = !answered ? '' : client.to?.every((t) => t.masqueraded) ? 'seen as this node' : client.to?.some((t) => t.masqueraded) ? 'partly seen as this node' : 'seen as itself';
  const list = [
    {label: 'CLIENT', value: client?.from ?? 'nobody', notes: [sender].filter(Boolean)},
    {label: (frontend?.kind ?? 'frontend').toUpperCase(), value: frontend?.address ?? '', notes: [port.protocol.toUpperCase() + (port.port ? ` · ${port.port}` : '')]},
  ];
  const ranges = port.loadBalancerSourceRanges?.length ? [port.loadBalancerSourceRanges.length === 1 ? `only ${port.loadBalancerSourceRanges[0]}` : `only ${port.loadBalancerSourceRanges.length} source ranges`] : [];
  if (answered) {
    list.push({label: external ? 'EXTERNAL POLICY' : 'INTERNAL POLICY', value: policy ?? '', notes: [`${client.to?.length ?? 0} of ${port.endpoints.length} endpoints`, ...ranges]});
    list.push({label: 'SCHEDULER', value: port.scheduler ?? '', notes: [port.affinitySeconds ? `same endpoint for ${port.affinitySeconds} s` : 'each connection anew', port.failover && 'failover']});
  } else {
    const word = {refused: 'refused', timeout: 'dropped', untouched: 'not touched'}[client?.outcome] ?? 'not known';
    list.push({label: 'OUTCOME', value: word, notes: [client?.outcome === 'timeout' ? 'the client waits' : client?.outcome === 'refused' ? 'the client is told' : '', ...ranges].filter(Boolean), bad: true});
  }
  list.forEach((b) => { b.notes = b.notes.filter(Boolean); });
  return list;
}

// picture draws the way of a client's connections to a frontend of a port.
export function picture({width, port, frontend, client, node}) {
  const shares = reach(port, client);
  const list = groups(port, node, shares);
  const boxes = steps(port, frontend, client);
  const across = width >= narrow;
  const endpointsHeight = list.reduce((sum, g) => sum + headHeight + g.rows.length * rowHeight + gap, 0) - gap;
  const draw = across ? drawAcross : drawDown;
  const {height, parts} = draw({width, boxes, list, endpointsHeight: Math.max(endpointsHeight, rowHeight)});
  const said = boxes.map((b) => `${b.label.toLowerCase()}: ${[b.value, ...b.notes].join(', ')}`).join('; ');
  return s('svg', {width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${said}; endpoints: ${shares.size} of ${port.endpoints.length} used. The table below has each of them.`}, parts);
}

const stroke = (share) => (1.2 + 7 * (share ?? 0)).toFixed(1);

function curve(x1, y1, x2, y2, attributes) {
  const middle = (x1 + x2) / 2;
  return s('path', {d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, ...attributes});
}

function drawAcross({width, boxes, list, endpointsHeight}) {
  const boxHeight = 84, right = Math.min(380, Math.max(250, width * 0.31));
  const space = Math.min(46, Math.max(22, width * 0.035));
  const each = Math.min(190, (width - right - space * (boxes.length + 0.6)) / boxes.length);
  const height = Math.max(endpointsHeight, boxHeight) + 4;
  const middle = Math.min(height / 2, 170);
  const x = (i) => 1 + i * (each + space);
  const left = Math.min(width - right - 1, x(boxes.length) + space * 0.8);
  const links = [], nodes = [];
  boxes.forEach((b, i) => {
    nodes.push(box(x(i), middle - boxHeight / 2, each, boxHeight, b.label, b.value, b.notes, {class: b.bad ? 'box bad' : 'box'}));
    if (i) links.push(s('path', {class: b.bad ? 'flow bad' : 'flow', d: `M${x(i - 1) + each} ${middle}H${x(i)}`, 'stroke-width': 3}));
  });
  const from = x(boxes.length - 1) + each;
  let y = 2 + (height - 4 - endpointsHeight) / 2;
  for (const g of list) {
    nodes.push(...group(g, left, y, width - left - 1, (at, row) => {
      if (row.share !== undefined) links.push(curve(from, middle, left + 9, at, {class: 'flow', 'stroke-width': stroke(row.share), 'data-ep': row.endpoint?.address}));
    }));
    y += headHeight + g.rows.length * rowHeight + gap;
  }
  if (!list.length) nodes.push(s('text', {x: left + 10, y: middle + 4, class: 'sub'}, 'no endpoints'));
  return {height, parts: [links, nodes]};
}

function drawDown({width, boxes, list, endpointsHeight}) {
  const boxHeight = 66, space = 16, trunk = 14;
  const links = [], nodes = [];
  let y = 1;
  boxes.forEach((b, i) => {
    if (i) {
      links.push(s('path', {class: b.bad ? 'flow bad' : 'flow', d: `M${width / 2} ${y}v${space}`, 'stroke-width': 3}));
      y += space;
    }
    nodes.push(box(1, y, width - 2, boxHeight, b.label, b.value, [b.notes.join(' · ')].filter(Boolean), {class: b.bad ? 'box bad' : 'box'}));
    y += boxHeight;
  });
  const start = y;
  y += space;
  let last = 0;
  for (const g of list) {
    nodes.push(...group(g, trunk + 12, y, width - trunk - 13, (at, row) => {
      if (row.share === undefined) return;
      last = at;
      links.push(s('path', {class: 'flow', d: `M${trunk} ${at - 9}q0 9 9 9h12`, 'stroke-width': Math.min(3, stroke(row.share)), 'data-ep': row.endpoint?.address}));
    }));
    y += headHeight + g.rows.length * rowHeight + gap;
  }
  if (last) links.push(s('path', {class: 'flow', d: `M${trunk} ${start}V${last - 9}`, 'stroke-width': 3}));
  if (!list.length) nodes.push(s('text', {x: 12, y: y + 14, class: 'sub'}, 'no endpoints'));
  return {height: Math.max(y, start + space + endpointsHeight), parts: [links, nodes]};
}

// group draws the endpoints of a node.
function group(g, x, y, width, link) {
  const height = headHeight + g.rows.length * rowHeight;
  const out = [s('rect', {class: g.here ? 'group here' : 'group', x, y, width, height, rx: 7}),
    text(x + 12, y + 18, g.node || 'no node', width * (g.here ? 0.42 : 0.5), {class: 'label'}, 6.4),
    text(x + width - 12, y + 18, [g.here && 'this node', g.zone].filter(Boolean).join(' · '), width * 0.38, {class: 'sub end'}, 6)];
  g.rows.forEach((row, i) => {
    const top = y + headHeight + i * rowHeight, at = top + rowHeight / 2 - 3;
    const used = row.share !== undefined, e = row.endpoint;
    link(at, row);
    out.push(s('g', {class: used ? 'endpoint' : 'endpoint unused', 'data-ep': e?.address, tabindex: e ? 0 : null, role: e ? 'img' : null,
      'aria-label': e ? `${e.address} ${e.pod ?? ''}: ${used ? percent(row.share) : e.why || 'not used for this client'}` : null},
    s('rect', {class: 'hit', x: x + 2, y: top - 1, width: width - 4, height: rowHeight - 2, rx: 5}),
    s('circle', {cx: x + 14, cy: at, r: 4.2}),
    text(x + 27, at, e ? (e.pod ? e.pod.replace(/^[^/]*\//, '') : e.address) : row.text, width - 96, {class: 'value'}, 7.2),
    text(x + 27, at + 14, e ? (used ? (e.pod ? e.address : '') : e.why || 'not for this client') : row.note, width - 45, {class: used ? 'sub mono' : 'sub'}, used ? 6.6 : 5.7),
    used && s('text', {x: x + width - 12, y: at, class: 'share end'}, percent(row.share)),
    e && s('title', {}, [e.address, e.pod, e.why, e.share].filter(Boolean).join('\n'))));
  });
  return out;
}
