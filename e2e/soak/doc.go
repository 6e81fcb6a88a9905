// SPDX-License-Identifier: Apache-2.0

// Soak runs nftproxy for a long time under everything that a node has at once, and says whether
// any connection was lost.
//
// It makes network namespaces with pods and a real kube-apiserver, thousands of Services of one
// and two families over TCP, UDP and SCTP, and runs nftproxy. Then, all at the same time:
//
//   - Services and EndpointSlices change, 200 times a second;
//   - 200 connections a second are made, from a pod, from the node, from an endpoint, and from
//     outside to NodePorts, and 50 stay open;
//   - another program changes the node's nftables each second;
//   - the API server is killed and started again every five minutes.
//
// The writer of the changes knows which endpoints each Service has and when it lost the others. So
// each answer tells more than that there was one: an endpoint that never was the Service's is a
// failure, and so is one that left it long ago.
//
// A third of the Services are never changed, most others get and lose endpoints but have always a
// ready one: connections go to these. The rest come and go. In the end every Service is
// asked once, and 'nftproxy diff' compares the kernel with the API server.
//
// Where the kernel does not speak SCTP, an INIT is sent and its answer awaited, in raw packets.
//
// SIGUSR1 ends the load early, and what there is then is judged. SIGINT and SIGTERM end everything.
//
// When nftproxy owns its tables (Linux 6.9), the other program tries to destroy them as a whole,
// and the kernel has to refuse. Else it adds to them, and destroys what belongs to Services that
// nobody connects to: from a change until its repair there are some milliseconds.
package main
