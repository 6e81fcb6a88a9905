// SPDX-License-Identifier: Apache-2.0
// Elements. Whatever text others wrote goes in as text and never as markup: nothing here, or elsewhere, reads HTML.

const svgSpace = 'http://www.w3.org/2000/svg';

// h makes an element. Attributes that begin with "on" are listeners; null and false are left out, as children, too.
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// s makes an element of SVG.
export function s(name, attributes, ...children) {
  return fill(document.createElementNS(svgSpace, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

// replace puts children in the place of those that an element has.
export function replace(element, ...children) {
  element.replaceChildren();
  add(element, children);
}

// keepFocus redraws, and gives the focus back to the element of the same data-key.
export function keepFocus(root, draw) {
  const key = root.contains(document.activeElement) ? document.activeElement.closest('[data-key]')?.dataset.key : null;
  draw();
  if (key) [...root.querySelectorAll('[data-key]')].find((e) => e.dataset.key === key)?.focus({preventScroll: true});
}

// choice is a row of buttons of which one is chosen.
export function choice(label, options, chosen, choose) {
  return h('div', {class: 'choice', role: 'group', 'aria-label': label}, options.map(([value, text, note]) =>
    h('button', {type: 'button', 'data-key': `${label} ${value}`, 'aria-pressed': String(value === chosen), onclick: () => choose(value)},
      text, note !== undefined && h('span', {class: 'note'}, note))));
}

// badge is a state in words and colour.
export function badge(state) {
  return h('span', {class: `badge ${tone(state)}`}, state);
}

// tone is the class of a state's colour.
export function tone(state) {
  return {ok: 'good', 'no endpoints': 'warn', conflict: 'warn', drift: 'bad', refused: 'bad'}[state] ?? '';
}

// clock writes a time as this browser's user does, with the day if it is another one.
export function clock(text) {
  const t = new Date(text);
  const day = t.toDateString() === new Date().toDateString() ? '' : t.toLocaleDateString() + ' ';
  return day + t.toLocaleTimeString([], {hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false});
}

// number writes a number with what separates thousands.
export const number = (n) => n.toLocaleString('en').replaceAll(',', '\u2009');

// milliseconds writes how long something took.
export function milliseconds(ms) {
  if (ms >= 10000) return (ms / 1000).toFixed(0) + ' s';
  if (ms >= 1000) return (ms / 1000).toFixed(1) + ' s';
  return (ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)) + ' ms';
}
