// SPDX-License-Identifier: Apache-2.0

// Package failover decides which endpoints get no new connections on this node because they do not answer. It is pure:
// it has no clock, and hears of what was seen.
//
// An endpoint of a service port that leaves as many connections unanswered as Config.Threshold says, within Config.Window
// and without an answer to anybody since they began, is ejected. After a time it is tried: the next connection goes there, that one
// alone. If that is not answered either, the endpoint stays away twice as long. At its first answer it is back, and also
// where a trial ends because nobody has connected.
//
//	         Threshold connections unanswered            its time is over
//	watched ─────────────────────────────────> ejected ───────────────────> tried
//	   ^                                        │  ^                         │ │
//	   ├──────────────── answer ────────────────┘  └────── unanswered ───────┘ │
//	   └────────────────────── answer, or nobody has connected ────────────────┘
//
// Of the endpoints of one service port never more than a share is ejected, and never the last one. Where more than half of
// all endpoints that connections went to of late did not answer, two at least, the trouble is the node's own: nothing is ejected,
// and what was is back.
package failover
