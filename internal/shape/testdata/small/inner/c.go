// SPDX-License-Identifier: Apache-2.0

package inner

const base = 1
