// SPDX-License-Identifier: Apache-2.0

import {h, s} from './dom.js';

// sparkline shows how many there were a second, the oldest on the left, and the newest as a number.
export function sparkline(list) {
  const width = 64, height = 16, n = list.length;
  const top = Math.max(1, ...list);
  const at = (v, i) => `${(n < 2 ? width : i * width / (n - 1)).toFixed(1)},${(height - 1 - v / top * (height - 3)).toFixed(1)}`;
  const now = n ? list[n - 1] : 0;
  return h('span', {class: 'spark'},
    s('svg', {width, height, viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true'}, n > 1 && s('polyline', {points: list.map(at).join(' ')})),
    h('span', {class: now ? 'figures' : 'figures none'}, now >= 10 ? now.toFixed(0) : now.toFixed(1)));
}
