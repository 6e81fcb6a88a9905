// SPDX-License-Identifier: Apache-2.0
// One Service: where connections to it go, and why; its rules; what was changed last.

import {get, part} from './api.js';
import {badge, choice, clock, h, keepFocus, milliseconds, replace} from './dom.js';
import {picture, reach} from './picture.js';
import {ruleText} from './rules.js';
import {summary} from './store.js';

const pace = 5000; // milliseconds after which it is asked for anew: of what is not programmed no change tells

export function serviceView({root, store, go, rest, about}) {
  const [namespace, name] = rest;
  const key = namespace + '/' + name;
  let known = null; // the last answers
  let text = ''; // of them
  let chosen = {port: '', frontend: '', client: ''};
  let closed = false;
  let asking = false, again = false;

  const head = h('div', {class: 'title'});
  const problem = h('div');
  const choices = h('div', {class: 'choices'});
  const figure = h('figure', {class: 'picture'});
  const verdict = h('div', {class: 'verdict', role: 'status'});
  const endpoints = h('section', {'aria-label': 'Endpoints'});
  const rules = h('section', {'aria-label': 'Rules'});
  const history = h('section', {'aria-label': 'History'});
  replace(root, head, problem, choices, figure, verdict, endpoints, h('div', {class: 'halves'}, rules, history));
  replace(problem, h('p', {class: 'empty'}, 'Reading …'));

  async function load() {
    if (asking) { again = true; return; }
    asking = true;
    const path = `${part(namespace)}/${part(name)}`;
    const settle = (p) => p.then((value) => ({value}), (e) => ({error: e.message}));
    const answers = await Promise.all([settle(get('services/' + path)), settle(get('explain', {target: key})), settle(get('rules/' + path))]);
    asking = false;
    if (closed) return;
    const now = JSON.stringify(answers);
    if (now !== text) {
      text = now;
      known = {service: answers[0], explanation: answers[1], rules: answers[2]};
      draw();
    }
    if (again) {
      again = false;
      load();
    }
  }

  function draw() {
    const service = known.service.value, explanation = known.explanation.value;
    drawHead(service);
    replace(problem, [known.service.error, known.service.error ? null : known.explanation.error].filter(Boolean).map((e) => h('p', {class: 'problem'}, e)),
      explanation ? null : (service?.notes ?? []).map((n) => h('p', {class: 'remark'}, n)));
    drawWay(explanation);
    drawHistory();
  }

  function drawHead(service) {
    const row = service && summary(service);
    keepFocus(head, () => replace(head,
      h('a', {class: 'back', href: go('services'), 'data-key': 'back'}, 'Services'),
      h('h1', {}, h('span', {class: 'space-name'}, namespace + '/'), name),
      row && badge(store.drift?.has(key) ? 'drift' : row.state),
      row && h('span', {class: 'note'}, row.type),
      about.trace && row && h('a', {class: 'action', href: go('trace', namespace, name), 'data-key': 'trace'}, 'Trace connections')));
  }

  // drawWay draws all that depends on what is chosen.
  function drawWay(explanation) {
    if (!explanation) {
      [choices, figure, verdict, endpoints, rules].forEach((e) => replace(e));
      return;
    }
    const ports = explanation.ports;
    const id = (p) => [p.port || p.number, p.protocol, p.family].join('/');
    const port = ports.find((p) => id(p) === chosen.port) ?? ports[0];
    if (!port) {
      replace(figure, h('p', {class: 'empty'}, 'It has no port that is served here.'));
      return;
    }
    const frontend = port.frontends.find((f) => f.address === chosen.frontend) ?? port.frontends[0];
    const client = frontend?.clients.find((c) => c.from === chosen.client) ?? frontend?.clients[0];
    const choose = (what) => (value) => { chosen = {...chosen, [what]: value}; drawWay(explanation); };
    keepFocus(choices, () => replace(choices,
      h('div', {}, h('span', {class: 'label'}, 'Port'), choice('Port', ports.map((p) => [id(p), p.port || p.number, `${p.number}/${p.protocol} ${p.family === 'ip6' ? 'IPv6' : 'IPv4'}`]), id(port), choose('port'))),
      frontend && h('div', {}, h('span', {class: 'label'}, 'To'), choice('Frontend', port.frontends.map((f) => [f.address, f.address, f.kind]), frontend.address, choose('frontend'))),
      frontend?.clients.length > 0 && h('div', {}, h('span', {class: 'label'}, 'From'), choice('Client', frontend.clients.map((c) => [c.from, c.from, c.outcome === 'answer' ? undefined : c.outcome]), client.from, choose('client')))));
    drawPicture = () => { if (inner(figure) > 0) replace(figure, picture({width: inner(figure), port, frontend, client, node: explanation.node})); };
    drawPicture();
    drawVerdict(port, frontend, client, explanation);
    drawEndpoints(port, client);
    drawRules(port, frontend, client);
  }
  let drawPicture = () => {};

  function drawVerdict(port, frontend, client, explanation) {
    const kernel = explanation.kernel;
    const holds = kernel.holds === true ? 'The kernel holds just that.' : kernel.holds === false ? `The kernel differs, in ${kernel.differences?.length ?? 0} places: see 'nftproxy diff'.` : kernel.problem ? `The kernel was not looked at: ${kernel.problem}.` : '';
    replace(verdict, client && h('p', {class: 'sentence'}, sentence(frontend, client, port)),
      frontend?.problem && h('p', {class: 'problem'}, frontend.problem),
      client?.why?.length > 0 && h('ul', {class: 'why'}, client.why.map((w) => h('li', {}, w))),
      port.lost?.length > 0 && h('ul', {class: 'why warn'}, port.lost.map((l) => h('li', {}, l))),
      explanation.notes?.length > 0 && h('ul', {class: 'why'}, explanation.notes.map((n) => h('li', {}, n))),
      port.pinned?.length > 0 && h('p', {class: 'remark'}, `${port.pinned.length} clients stay with their endpoints: ` + port.pinned.slice(0, 5).map((p) => `${p.client} with ${p.endpoint}`).join(', ') + (port.pinned.length > 5 ? ' and others' : '')),
      port.moreFrontends > 0 && h('p', {class: 'remark'}, `${port.moreFrontends} more addresses are not shown.`),
      h('p', {class: kernel.holds === false ? 'problem' : 'remark'}, holds));
  }

  function drawEndpoints(port, client) {
    const shares = reach(port, client);
    const zones = port.endpoints.some((e) => e.zone);
    const most = 500;
    replace(endpoints, h('h2', {}, 'Endpoints', h('span', {class: 'note'}, `${port.endpoints.filter((e) => shares.has(e.address)).length} of ${port.endpoints.length} for this client`)),
      port.endpoints.length === 0 ? h('p', {class: 'empty'}, 'There is none.') :
      h('div', {class: 'wide'}, h('table', {}, h('thead', {}, h('tr', {}, ['Address', 'Pod', 'Node', zones && 'Zone', 'Share', 'Why'].filter(Boolean).map((c) => h('th', {scope: 'col'}, c)))),
        h('tbody', {}, port.endpoints.slice(0, most).map((e) => h('tr', {'data-ep': e.address, class: shares.has(e.address) ? 'used' : 'unused'},
          h('td', {class: 'mono'}, h('span', {class: shares.has(e.address) ? 'dot good' : 'dot hollow', 'aria-hidden': 'true'}), e.address),
          h('td', {}, e.pod ?? ''), h('td', {}, e.node ?? '', e.onThisNode && h('span', {class: 'note'}, 'here')), zones && h('td', {}, e.zone ?? ''),
          h('td', {class: 'figures'}, shares.has(e.address) ? percent(shares.get(e.address)) : '–'), h('td', {class: 'muted'}, [e.why, e.share].filter(Boolean).join('; '))))))),
      port.endpoints.length > most && h('p', {class: 'remark'}, `and ${port.endpoints.length - most} more`));
  }

  function drawRules(port, frontend, client) {
    const answer = known.rules;
    const scroll = rules.querySelector('pre')?.scrollTop;
    replace(rules, h('h2', {}, 'Rules', h('span', {class: 'note'}, 'marked: what the picture shows')),
      client?.rules?.length > 0 && h('ol', {class: 'steps', 'aria-label': 'The rules on the way'}, client.rules.map((r) => {
        const at = r.indexOf(': ');
        return h('li', {}, h('b', {}, r.slice(0, at)), ' ', r.slice(at + 2));
      })),
      answer.error ? h('p', {class: 'problem'}, answer.error) : h('pre', {class: 'nft', tabindex: 0, 'aria-label': 'This Service in the tables, as nft lists it'}, ruleText(answer.value.text, port, frontend, client)),
      answer.value?.more > 0 && h('p', {class: 'remark'}, `${answer.value.more} elements and rules are not shown.`));
    if (scroll) rules.querySelector('pre').scrollTop = scroll;
  }

  function drawHistory() {
    const most = 50;
    const list = store.transactions.filter((t) => t.ports?.some((p) => p.namespace === namespace && p.name === name)).slice(-most).reverse();
    replace(history, h('h2', {}, 'History', h('span', {class: 'note'}, `of the last ${store.transactions.length} transactions`)),
      list.length === 0 ? h('p', {class: 'empty'}, 'None of them names this Service.') :
      h('ol', {class: 'history'}, list.map((t) => h('li', {}, h('time', {datetime: t.at}, clock(t.at)), h('div', {},
        t.ports.filter((p) => p.namespace === namespace && p.name === name).map((p) => h('div', {}, h('span', {class: 'label'}, `${p.port || 'port'} ${p.family === 'ip6' ? 'IPv6' : 'IPv4'}`), changes(p))),
        t.refused && h('div', {class: 'problem'}, t.refused)), h('span', {class: 'note', title: 'how long it took to program'}, milliseconds(t.tookMilliseconds))))));
  }

  const light = (e) => {
    const at = e.type === 'pointerleave' || e.type === 'focusout' ? null : e.target.closest?.('[data-ep]')?.dataset.ep;
    if (at === light.now) return;
    light.now = at;
    for (const x of root.querySelectorAll('[data-ep]')) x.classList.toggle('lit', at !== null && at !== undefined && x.dataset.ep === at);
  };
  ['pointerover', 'pointerleave', 'focusin', 'focusout'].forEach((type) => root.addEventListener(type, light));

  const changed = (e) => { if (e.detail === null || e.detail.has(key)) load(); };
  const drift = () => known && drawHead(known.service.value);
  store.addEventListener('changed', changed);
  store.addEventListener('transactions', drawHistory);
  store.addEventListener('drift', drift);
  const timer = setInterval(() => { if (!document.hidden) load(); }, pace);
  let width = 0;
  const resized = new ResizeObserver(() => {
    if (figure.clientWidth !== width) drawPicture();
    width = figure.clientWidth;
  });
  resized.observe(figure);
  const keys = (e) => { if (e.key === 'Escape' && !e.target.matches('input, select')) location.hash = go('services'); };
  addEventListener('keydown', keys);
  load();
  return {close() {
    closed = true;
    clearInterval(timer);
    resized.disconnect();
    removeEventListener('keydown', keys);
    ['pointerover', 'pointerleave', 'focusin', 'focusout'].forEach((type) => root.removeEventListener(type, light));
    store.removeEventListener('changed', changed);
    store.removeEventListener('transactions', drawHistory);
    store.removeEventListener('drift', drift);
  }};
}

// inner is an element's width without its padding.
function inner(e) {
  const style = getComputedStyle(e);
  return Math.max(0, e.clientWidth - Number.parseFloat(style.paddingLeft) - Number.parseFloat(style.paddingRight));
}

// percent writes a share.
export function percent(share) {
  const p = 100 * share;
  return (p >= 9.95 || p === 0 ? p.toFixed(0) : p.toFixed(1)) + ' %';
}

// sentence says what becomes of a client's connections.
function sentence(frontend, client, port) {
  const who = {'a pod': 'A connection from a pod', 'this node': 'A connection from this node itself', outside: 'A connection from outside'}[client.from] ?? `A connection from ${client.from}`;
  const to = ` to ${frontend.address}/${port.protocol} `;
  switch (client.outcome) {
    case 'answer': {
      const n = client.to?.length ?? 0;
      const seen = n && client.to.every((t) => t.masqueraded) ? 'which sees this node as the sender' : n && client.to.some((t) => t.masqueraded) ? 'some of which see this node as the sender' : 'which sees the client’s own address';
      return who + to + (n === 1 ? `goes to ${client.to[0].address}, ${seen}.` : `goes to one of ${n} endpoints, ${seen}.`);
    }
    case 'refused': return who + to + (client.unheard ? 'is refused, but its protocol takes no notice of that.' : 'is refused at once.');
    case 'timeout': return who + to + 'is dropped: the client waits until it gives up.';
    default: return who + to + 'is not touched by nftproxy.';
  }
}

// changes says what a transaction has done to a port.
function changes(p) {
  const some = (sign, list, n) => [...(list ?? []).map((a) => h('span', {class: sign === '+' ? 'came mono' : 'went mono'}, sign + a)), n > (list?.length ?? 0) && h('span', {class: 'note'}, `${sign}${n - (list?.length ?? 0)} more`)];
  const all = [...some('+', p.came, p.cameCount ?? 0), ...some('−', p.went, p.wentCount ?? 0)].filter(Boolean);
  return [all.length ? all.flatMap((x) => [x, ' ']) : 'written anew ', h('span', {class: 'note'}, p.endpointsUsed ? `${p.endpointsUsed} used` : 'none used')];
}
