// SPDX-License-Identifier: Apache-2.0
// Rules as text, with the parts marked that a picture shows.

import {h} from './dom.js';

const pair = /([0-9a-f:.]{2,}) \. (?:(tcp|udp|sctp) \. )?(\d+)(?![\d.:])|\b(tcp|udp|sctp) \. (\d+)/g;

// place splits ADDRESS:PORT; a port alone is a NodePort's.
function place(text) {
  const at = text.lastIndexOf(':');
  return at < 0 ? ['', text] : [text.slice(0, at).replace(/^\[|\]$/g, ''), text.slice(at + 1)];
}

// ruleText returns the lines of a text of nft. Lines on the way of a client are marked, and the frontend's and endpoints' addresses.
export function ruleText(text, port, frontend, client) {
  const way = new Set((client?.rules ?? []).map((r) => r));
  const family = port.family === 'ip6' ? 'ip6' : 'ip';
  const endpoints = new Map(port.endpoints.map((e) => [place(e.address).join(' . '), e.address]));
  const reached = new Set((client?.to ?? []).map((t) => t.address));
  const front = new Set();
  if (frontend) {
    const [address, number] = place(frontend.address);
    front.add(frontend.kind === 'NodePort' ? `${port.protocol} . ${number}` : `${address} . ${port.protocol} . ${number}`);
  }
  const maps = new Set((client?.rules ?? []).flatMap((r) => [...r.matchAll(/@(\S+)/g)].map((m) => m[1])));
  let table = '', chain = '', map = '';
  return text.split('\n').map((line) => {
    const words = line.trim().split(' ');
    if (words[0] === 'table') table = words[1];
    if (words[0] === 'chain') [chain, map] = [words[1], ''];
    if (words[0] === 'map' || words[0] === 'set') [chain, map] = ['', words[1]];
    const ours = table === family;
    const marked = ours && chain && way.has(`${chain}: ${line.trim()}`);
    const note = line.trim().startsWith('#');
    return h('span', {class: ['line', marked && 'way', note && 'comment', /^\t?(table|chain|map|set) /.test(line) && 'opening'].filter(Boolean).join(' ')},
      ours && !note && (!map || maps.has(map)) ? marks(line, endpoints, reached, front) : line, '\n');
  });
}

function marks(line, endpoints, reached, front) {
  const out = [];
  let from = 0;
  for (const m of line.matchAll(pair)) {
    const endpoint = endpoints.get(m[0]);
    if (!endpoint && !front.has(m[0])) continue;
    out.push(line.slice(from, m.index), h('mark', {class: endpoint ? (reached.has(endpoint) ? 'endpoint' : 'endpoint other') : 'frontend', 'data-ep': endpoint}, m[0]));
    from = m.index + m[0].length;
  }
  return [...out, line.slice(from)];
}
