// SPDX-License-Identifier: Apache-2.0

package trust

// First returns the ID of the first process that Find finds for a name, of those whose arguments
// match, if match is not nil; "" if there is none. notes is Find's.
func (p Processes) First(name string, match func(args []string) bool) (id string, notes []string) {
	found, notes := p.Find(name)
	for _, one := range found {
		if match == nil || match(one.Args) {
			return one.ID, notes
		}
	}
	return "", notes
}
