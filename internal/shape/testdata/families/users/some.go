// SPDX-License-Identifier: Apache-2.0

package users

import "example.org/families/rules"

func Some(o rules.Options) bool { return rules.Red == 0 && o.Wide && o.High }

var dot rules.Shape = rules.Dot{}
