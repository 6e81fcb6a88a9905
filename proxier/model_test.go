// SPDX-License-Identifier: Apache-2.0

package proxier_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/nftproxy/nftproxy/proxier"
	"github.com/nftproxy/nftproxy/rules"
	"github.com/nftproxy/nftproxy/rules/rulestest"
	"github.com/nftproxy/nftproxy/rules/tracer"
)

// The model walks at random over what can become of the tables: they are adopted, or loaded; changes are committed, refused as a
// whole or in the middle, for one service's reasons or the kernel's own, or carried out without an answer; service ports are set
// aside and tried again; others change the tables, seen or unseen; a process ends, or is killed in the middle of a transaction;
// another one starts, or waits and takes over. Whatever happened, these hold:
//
//   - once all is quiet, the kernel holds what a fresh start would write for the same objects, and so does the proxier: nothing is
//     forgotten;
//   - no prefix of a transaction breaks a Service that neither side of it changes;
//   - who has no turn does not write.
//
// MODEL_STEPS=1000000 go test ./proxier -run TestModelWalk -timeout 2h walks further than the 20,000 steps of each run of the tests.
// A failure tells the seed of its walk: MODEL_SEED=17 go test ./proxier -run TestModelWalk walks that one again.
const (
	modelSteps  = 20_000
	stepsOfWalk = 500
)

func TestModelWalk(t *testing.T) {
	number := func(name string, usual int) int {
		text, given := os.LookupEnv(name)
		if !given {
			return usual
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	if seed := number("MODEL_SEED", -1); seed >= 0 {
		synctest.Test(t, func(t *testing.T) { walkModel(t, uint64(seed)) })
		return
	}
	seen := map[string]int{}
	for seed := range uint64(number("MODEL_STEPS", modelSteps) / stepsOfWalk) {
		synctest.Test(t, func(t *testing.T) {
			for what, n := range walkModel(t, seed) {
				seen[what] += n
			}
		})
		if t.Failed() {
			t.Fatalf("MODEL_SEED=%d go test ./proxier -run TestModelWalk walks this again", seed)
		}
	}
	t.Log(seen)
	for _, what := range []string{"change", "delete", "tamper", "restart", "kill", "wait", "take over", "carried out", "refused", "cut", "lost", "general", "prefix", "cannot be read",
		"Programmed all services", "Ready to take over", "Repaired the kernel's tables", "Service port is not programmed"} {
		if seen[what] == 0 {
			t.Errorf("it never came to this: %s", what)
		}
	}
}

// walkModel takes a walk, and returns how often things happened.
func walkModel(t *testing.T, seed uint64) map[string]int {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 2)), slices: map[int]*discoveryv1.EndpointSlice{}, services: map[int]*corev1.Service{}, audits: seed%2 == 0}
	m.kernel = &modelKernel{model: m, r: rand.New(rand.NewPCG(seed, 3)), seen: map[string]int{}}
	m.start()
	for step := range stepsOfWalk {
		m.step()
		if step%40 == 39 {
			m.quiet()
		}
		if t.Failed() {
			t.Logf("MODEL_SEED=%d, in step %d, after %s", seed, step, strings.Join(m.did[max(0, len(m.did)-20):], ", "))
			break
		}
	}
	m.kernel.calm(true)
	for _, a := range []*actor{m.waiting, m.current} {
		if a != nil {
			m.end(a)
		}
	}
	for _, what := range m.did {
		m.kernel.seen[what]++
	}
	return m.kernel.seen
}

// end ends a process.
func (m *model) end(a *actor) {
	a.stop()
	for line := range strings.Lines(a.log.String()) {
		for _, what := range []string{"Programmed all services", "Ready to take over", "Repaired the kernel's tables", "Service port is not programmed"} {
			if strings.Contains(line, what) {
				m.kernel.seen[what]++
			}
		}
	}
}

// model is the world of a walk.
type model struct {
	t        *testing.T
	r        *rand.Rand
	kernel   *modelKernel
	current  *actor
	waiting  *actor // nil: nobody waits
	services map[int]*corev1.Service
	slices   map[int]*discoveryv1.EndpointSlice
	did      []string
	dirty    bool // somebody has changed the tables unseen
	audits   bool // everything is compared from time to time, which would hide what was forgotten: not in each walk
}

// actor is a process.
type actor struct {
	*node
	turn    chan struct{} // nil: it need not wait
	id      int
	mu      sync.Mutex
	touched rules.Touched
}

// chance is true once in n times.
func (m *model) chance(n int) bool { return m.r.IntN(n) == 0 }

// step does something, and lets some time go by.
func (m *model) step() {
	steps := []struct {
		weight int
		name   string
		do     func()
	}{
		{40, "change", m.change}, {6, "delete", m.remove}, {6, "tamper", m.tamper}, {5, "fickle", func() { m.kernel.calm(false) }}, {8, "calm", func() { m.kernel.calm(true) }},
		{3, "restart", m.restart}, {2, "kill", m.kill}, {3, "wait", m.wait}, {3, "take over", m.takeOver},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	at := m.r.IntN(total)
	for _, s := range steps {
		if at -= s.weight; at < 0 {
			m.did = append(m.did, s.name)
			s.do()
			break
		}
	}
	if m.chance(3) {
		time.Sleep(time.Duration(m.r.IntN(3000)) * time.Millisecond)
	}
	synctest.Wait()
}

// actors are those who hear of changes.
func (m *model) actors() []*actor {
	if m.waiting != nil {
		return []*actor{m.current, m.waiting}
	}
	return []*actor{m.current}
}

// mostServices is how many Services there are.
const mostServices = 8

func (m *model) change() {
	i := m.r.IntN(mostServices)
	name, ips := fmt.Sprintf("s%d", i), fmt.Sprintf("10.96.0.%d", i+1)
	if m.services[i] == nil || m.chance(4) {
		if m.chance(3) {
			ips += fmt.Sprintf(" fd00::%d", i+1)
		}
		s := service(name, ips, []string{"80", "80/UDP", "a:80", "53/SCTP"}[m.r.IntN(4)])
		if m.chance(2) {
			s.Spec.Type, s.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(30000+i)
		}
		if m.chance(4) {
			s.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		}
		m.services[i] = s
		for _, a := range m.actors() {
			a.UpdateService(s)
		}
	}
	port := m.services[i].Spec.Ports[0]
	var ends []string
	for e := range 4 {
		if m.chance(2) {
			ends = append(ends, fmt.Sprintf("10.0.%d.%d%s", i, e+1, []string{"", "", "", "-"}[m.r.IntN(4)]))
		}
	}
	m.slices[i] = endpoints("e"+name, name, fmt.Sprintf("%s:8080/%s", port.Name, port.Protocol), strings.Join(ends, " "))
	for _, a := range m.actors() {
		a.UpdateEndpointSlice(m.slices[i])
	}
}

func (m *model) remove() {
	i := m.r.IntN(mostServices)
	delete(m.services, i)
	for _, a := range m.actors() {
		a.DeleteService("default", fmt.Sprintf("s%d", i))
	}
}

// lists gives a proxier all that there is.
func (m *model) lists(n *node) {
	var objects []any
	for i := range mostServices {
		if s := m.services[i]; s != nil {
			objects = append(objects, s)
		}
		if s := m.slices[i]; s != nil {
			objects = append(objects, s)
		}
	}
	n.lists(objects...)
}

// launch starts a process.
func (m *model) launch(turn chan struct{}) *actor {
	m.kernel.ids++
	a := &actor{id: m.kernel.ids, turn: turn}
	if turn == nil {
		m.kernel.setHolder(a.id)
	}
	a.node = startWith(m.t, &rulestest.Kernel{}, func(c *proxier.Config) {
		if !m.audits {
			c.Pace.AuditPeriod = -1
		}
		c.Kernel, c.Foreign.Turn = &modelView{m.kernel, a.id}, turn
		c.Foreign.Touched = func() rules.Touched {
			a.mu.Lock()
			defer a.mu.Unlock()
			out := a.touched
			a.touched = rules.Touched{}
			return out
		}
	})
	m.lists(a.node)
	return a
}

func (m *model) start()   { m.current = m.launch(nil) }
func (m *model) restart() { m.end(m.current); m.start() }

// kill ends the process in the middle of what it does next.
func (m *model) kill() {
	m.kernel.kill(m.current.id)
	m.change()
	synctest.Wait()
	if m.waiting != nil {
		m.takeOver()
	} else {
		m.restart()
	}
}

func (m *model) wait() {
	if m.waiting == nil {
		m.waiting = m.launch(make(chan struct{}))
		m.kernel.watchedBy(m.waiting)
	}
}

func (m *model) takeOver() {
	if m.waiting == nil {
		return
	}
	m.end(m.current)
	m.current, m.waiting = m.waiting, nil
	m.kernel.watchedBy(nil)
	m.kernel.setHolder(m.current.id)
	close(m.current.turn)
}

// tamper changes the tables, which is told of exactly, roughly, or not at all.
func (m *model) tamper() {
	thing, ok := m.kernel.tamper(m.r)
	if !ok {
		return
	}
	what := rules.Touched{Things: []rules.Thing{thing}}
	switch n := m.r.IntN(6); {
	case n == 0:
		what.Things = nil
	case n == 1 && m.audits:
		m.dirty = true
		return
	}
	for _, a := range m.actors() {
		a.tell(what)
	}
}

// tell tells a process of what others have changed.
func (a *actor) tell(what rules.Touched) {
	a.mu.Lock()
	if len(what.Things) == 0 {
		what.Things = []rules.Thing{{Kind: rules.Everything}}
	}
	a.touched.Things = append(a.touched.Things, what.Things...)
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// quiet ends all trouble, waits until everything was tried again, and checks that nothing was forgotten.
func (m *model) quiet() {
	m.kernel.calm(true)
	time.Sleep(20 * time.Minute) // longer than any wait, and than the time between two comparisons of everything
	synctest.Wait()
	if m.dirty { // a comparison that began before the change may have been the last one
		time.Sleep(16 * time.Minute)
		synctest.Wait()
		m.dirty = false
	}
	fresh := start(m.t, &rulestest.Kernel{})
	m.lists(fresh)
	fresh.stop()
	want, have := fresh.kernel.State(), m.kernel.copy()
	want.Name, have.Name = "nftproxy", "nftproxy"
	if w, h := text(want), text(have); w != h {
		m.t.Errorf("all is quiet, and the kernel holds\n%s\nwant\n%s\nlog:\n%s", h, w, lastLines(m.current.log.String()))
	}
	if m.chance(3) {
		m.end(m.current)
		got := m.current.Snapshot().State
		got.Name = "nftproxy"
		if g, w := text(got), text(want); g != w {
			m.t.Errorf("the proxier wants\n%s\nwant\n%s", g, w)
		}
		m.start()
	}
}

func lastLines(log string) string {
	lines := strings.Split(log, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// modelKernel is a kernel that several processes share, with faults.
type modelKernel struct {
	model *model

	mu      sync.Mutex
	r       *rand.Rand
	state   rules.State
	fickle  bool   // it refuses and loses things
	refused string // the chain or set whose objects it refuses
	ids     int
	holder  int // whose turn it is
	dying   int // who is killed in its next transaction
	waiting *actor
	seen    map[string]int
}

// modelView is the kernel as a process has it.
type modelView struct {
	*modelKernel
	id int
}

func (k *modelKernel) setHolder(id int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holder = id
}

// watchedBy says who is told of what is written: to one that waits, it is another program's.
func (k *modelKernel) watchedBy(a *actor) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiting = a
}

func (k *modelKernel) kill(id int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.dying = id
}

func (k *modelKernel) calm(calm bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fickle = !calm
	k.refused = ""
	if !calm && k.r.IntN(2) == 0 {
		k.refused = fmt.Sprintf("10.96.0.%d", 1+k.r.IntN(mostServices))
	}
}

func (k *modelKernel) copy() rules.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state.Clone()
}

// Read implements proxier.Kernel.
func (k *modelKernel) Read(table string) (rules.State, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.state.Clone()
	s.Name = table
	return s, k.readFault()
}

// Scan implements proxier.Kernel.
func (k *modelKernel) Scan(_ string, things []rules.Thing, to rules.Parts) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.readFault()
	if err == nil {
		k.state.Scan(things, to)
	}
	return err
}

func (k *modelKernel) readFault() error {
	if k.fickle && k.r.IntN(10) == 0 {
		k.seen["cannot be read"]++
		return []error{syscall.EINTR, syscall.ENOBUFS, errors.New("the tables kept changing while they were read")}[k.r.IntN(3)]
	}
	return nil
}

// Apply implements proxier.Kernel.
func (v *modelView) Apply(tx rules.Tx) error {
	k := v.modelKernel
	k.mu.Lock()
	defer k.mu.Unlock()
	ops := tx.Ops()
	if k.dying == v.id {
		if v.id == k.holder && k.r.IntN(2) == 0 {
			k.carryOut(tx, k.r.IntN(len(ops)+1))
		}
		k.holder = 0
		return errors.New("the process is dead")
	}
	if v.id != k.holder {
		if k.holder != 0 {
			k.model.t.Errorf("process %d writes, and it is the turn of %d", v.id, k.holder)
		}
		return syscall.EPERM
	}
	if objects := k.refuses(&tx); objects != nil {
		cut := 0
		if k.r.IntN(3) == 0 {
			cut = k.r.IntN(len(ops))
			k.seen["cut"]++
		}
		k.seen["refused"]++
		k.carryOut(tx, cut)
		return &rules.Refusal{Objects: objects, Untouched: cut == 0, Err: syscall.EINVAL}
	}
	if k.fickle && k.r.IntN(8) == 0 {
		switch k.r.IntN(4) {
		case 0: // the answer is lost
			if err := k.carryOut(tx, len(ops)); err != nil {
				return err
			}
			k.seen["lost"]++
			return errors.New("no answer")
		case 1:
			k.carryOut(tx, k.r.IntN(len(ops)))
			return &rules.Refusal{Err: syscall.ENOBUFS}
		case 2:
			k.seen["general"]++
			return &rules.Refusal{Untouched: true, Err: []syscall.Errno{syscall.ENOMEM, syscall.EPERM, syscall.EBUSY, syscall.ENOENT}[k.r.IntN(4)]}
		}
		return &rules.Refusal{Untouched: true, Objects: []rules.Object{ops[k.r.IntN(len(ops))].Object(tx.Name)}, Err: syscall.EINVAL}
	}
	return k.carryOut(tx, len(ops))
}

// refuses returns the objects that the kernel refuses for now: those of one Service.
func (k *modelKernel) refuses(tx *rules.Tx) (objects []rules.Object) {
	if k.refused == "" {
		return nil
	}
	at := netip.MustParseAddr(k.refused)
	for _, op := range tx.Ops() {
		if op.Kind != rules.DeleteElements && slices.ContainsFunc(op.Elements, func(e rules.Element) bool { return e.Key.Addr == at && op.Set.Kind != rules.ClusterIPs }) {
			objects = append(objects, op.Object(tx.Name))
		}
	}
	return objects
}

// carryOut carries the first n operations of a transaction out, as a whole.
func (k *modelKernel) carryOut(tx rules.Tx, n int) error {
	before := k.state
	after, err := prefix(before, tx, n)
	if err != nil {
		return &rules.Refusal{Untouched: true, Err: fmt.Errorf("%w: %w", syscall.ENOENT, err)}
	}
	k.seen["carried out"]++
	if n == len(tx.Ops()) && n > 1 && k.r.IntN(4) == 0 {
		k.checkPrefix(before, after, tx, 1+k.r.IntN(n-1))
	}
	k.state = after
	if part := (rules.Tx{Name: tx.Name}); k.waiting != nil {
		part.Add(tx.Ops()[:n]...)
		k.waiting.tell(rules.Touched{Things: part.Things()})
	}
	return nil
}

func prefix(s rules.State, tx rules.Tx, n int) (rules.State, error) {
	part := rules.Tx{Name: tx.Name}
	part.Add(tx.Ops()[:n]...)
	return s.Apply(part)
}

// checkPrefix checks that the first n operations of a transaction break nobody whom the whole does not change.
func (k *modelKernel) checkPrefix(before, after rules.State, tx rules.Tx, n int) {
	if slices.ContainsFunc(before.Tables[:], func(t *rules.Table) bool { return t != nil && t.Dormant }) {
		return // its first operation wakes the table: nobody was served
	}
	k.seen["prefix"]++
	middle, err := prefix(before, tx, n)
	if err != nil {
		k.model.t.Errorf("the first %d operations of %d cannot be carried out: %v", n, tx.Len(), err)
		return
	}
	for i := range mostServices {
		was, is := outcome(before, i), outcome(after, i)
		if now := outcome(middle, i); was == is && now != was {
			k.model.t.Errorf("after %d operations of %+v, service %d leads to %q, before and after to %q", n, tx.Ops(), i, now, was)
		}
	}
}

// outcome returns what becomes of the first packet to a Service, over each protocol, whichever of its endpoints has its turn.
func outcome(s rules.State, i int) (out [3][4]string) {
	for turn := range uint32(len(out[0])) {
		for p, text := range outcomeAt(s, i, turn) {
			out[p][turn] = text
		}
	}
	return out
}

func outcomeAt(s rules.State, i int, turn uint32) (out [3]string) {
	to := netip.AddrFrom4([4]byte{10, 96, 0, byte(i + 1)})
	for p, port := range map[rules.Protocol]uint16{rules.TCP: 80, rules.UDP: 80, rules.SCTP: 53} {
		tr := tracer.Tracer{State: s, Forget: true, Choose: func(mod uint32) uint32 { return turn % mod }}
		became, err := tr.Trace(tracer.Packet{Protocol: p, Src: netip.MustParseAddrPort("10.244.1.10:1000"), Dst: netip.AddrPortFrom(to, port)}, false)
		at := slices.Index(rules.AllProtocols[:], p)
		switch {
		case err != nil:
			out[at] = err.Error()
		case became.Rejected:
			out[at] = "rejected"
		case became.Dropped:
			out[at] = "dropped"
		default:
			out[at] = became.To.String()
		}
	}
	return out
}

// tamper changes something, and says what; false: there is nothing.
func (k *modelKernel) tamper(r *rand.Rand) (rules.Thing, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := rules.Families[r.IntN(2)]
	if k.state.Tables[f] == nil {
		return rules.Thing{}, false
	}
	k.state = k.state.Clone()
	t := k.state.Tables[f]
	switch r.IntN(6) {
	case 0:
		k.state.Tables[f] = nil
		return rules.Thing{Kind: rules.Everything}, true
	case 1:
		t.Chains["theirs"] = rules.Chain{Name: "theirs"}
		return rules.Thing{Kind: rules.ThingChain, Family: f, Name: "theirs"}, true
	case 2:
		t.Dormant = true
		return rules.Thing{Kind: rules.ThingTable, Family: f}, true
	case 3:
		names := slices.Sorted(maps.Keys(t.Chains))
		c := t.Chains[names[r.IntN(len(names))]]
		c.Rules = nil
		t.Chains[c.Name] = c
		return rules.Thing{Kind: rules.ThingChain, Family: f, Name: c.Name}, true
	}
	id := rules.SetID{Kind: []rules.SetKind{rules.Single, rules.ServiceIPs, rules.ClusterIPs}[r.IntN(3)]}
	for key := range t.Sets[id] {
		delete(t.Sets[id], key)
		return rules.Thing{Kind: rules.ThingElement, Family: f, Name: id.Name(), Key: key}, true
	}
	return rules.Thing{}, false
}
