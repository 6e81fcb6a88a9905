// SPDX-License-Identifier: Apache-2.0
// The frame: which node and which view, as the address after # says: #/NODE/VIEW/...

import {nodes, useNode} from './api.js';
import {h, replace} from './dom.js';
import {Store} from './store.js';
import {listView} from './list.js';
import {serviceView} from './service.js';
import {nodeView} from './node.js';
import {traceView} from './trace.js';

const views = {services: listView, service: serviceView, node: nodeView, trace: traceView};
const titles = {services: 'Services', node: 'Node', trace: 'Trace'};
const element = (id) => document.getElementById(id);

let about = {nodes: [], version: ''};
let shown = -1;
let store = null;
let view = null;

// where reads the address.
function where() {
  const [n, name, ...rest] = location.hash.replace(/^#\//, '').split('/').map(decode);
  const number = Number.parseInt(n, 10);
  return {node: about.nodes[number] ? number : 0, name: views[name] ? name : 'services', rest};
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// address is the one of a view.
function address(node, name, ...rest) {
  return '#/' + [node, name, ...rest].map(encodeURIComponent).join('/');
}

function show() {
  const to = where();
  if (to.node !== shown) {
    store?.close();
    shown = to.node;
    useNode(shown);
    store = new Store().open();
    store.addEventListener('live', tellLive);
    tellLive();
  }
  view?.close?.();
  const root = element('view');
  root.className = to.name;
  const go = (name, ...rest) => address(shown, name, ...rest);
  view = views[to.name]({root, store, go, rest: to.rest, about: about.nodes[shown]});
  replace(element('views'), Object.entries(titles).map(([name, title]) =>
    h('a', {href: address(shown, name), 'aria-current': (to.name === name || to.name === 'service' && name === 'services') && 'page'}, title)));
  element('nodes').value = String(shown);
  const subject = to.name === 'service' || to.name === 'trace' ? to.rest.join('/') : '';
  document.title = [subject, titles[to.name], about.nodes[shown].name].filter(Boolean).join(' · ') + ' · nftproxy';
}

function tellLive() {
  const e = element('live');
  e.className = store.live ? 'live' : 'live lost';
  replace(e, store.live ? 'live' : 'connecting');
  e.title = store.live ? 'Changes are shown as they come' : 'This node does not answer';
}

function keys(e) {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches('input, select, textarea')) return;
  const jump = {1: 'services', 2: 'node', 3: 'trace'}[e.key];
  if (jump) location.hash = address(shown, jump);
  else if (e.key === '/') {
    const search = document.querySelector('input[type=search]');
    if (!search) location.hash = address(shown, 'services');
    else search.focus();
    e.preventDefault();
  }
}

async function begin() {
  try {
    about = await nodes();
  } catch (e) {
    replace(element('view'), h('p', {class: 'empty'}, `Nobody answers: ${e.message}. Does 'nftproxy ui' still run?`));
    return;
  }
  const select = element('nodes');
  replace(select, about.nodes.map((n, i) => h('option', {value: i}, n.name)));
  select.addEventListener('change', () => { location.hash = address(select.value, where().name === 'service' ? 'services' : where().name); });
  select.closest('label').hidden = about.nodes.length < 2;
  element('skip').addEventListener('click', (e) => { e.preventDefault(); element('view').focus(); });
  addEventListener('pagehide', () => store.rest(true));
  addEventListener('pageshow', (e) => { if (e.persisted) store.rest(false); });
  addEventListener('hashchange', show);
  addEventListener('keydown', keys);
  document.addEventListener('visibilitychange', () => store.rest(document.hidden));
  show();
}

begin();
