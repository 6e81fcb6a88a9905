// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/nftproxy/nftproxy/e2e/proxy"
)

// manifests is what users apply.
const manifests = "../../deploy/nftproxy.yaml"

// right is one thing that a ClusterRole allows.
type right struct{ group, resource, verb string }

func (r right) String() string { return fmt.Sprintf("%s %s %q", r.verb, r.resource, r.group) }

// advice is what the log says when the right is missing.
func (r right) advice() string {
	text := fmt.Sprintf("(apiGroups: [%q], resources: [%q], verbs: [%q]) bound to this program's user", r.group, r.resource, r.verb)
	if r.resource == "events" {
		text = `cannot ` + r.verb + ` resource "events"`
	}
	return strings.ReplaceAll(text, `"`, `\"`)
}

// TestRBAC runs nftproxy with the ServiceAccount of the manifests: with its rights all is well, and
// with any of them taken away the log says which one is missing, and nftproxy recovers when it is back.
func TestRBAC(t *testing.T) {
	s := newSite(t)
	a := s.account()
	rights := rightsOf(a.role)
	if len(rights) != 10 {
		t.Errorf("the ClusterRole has %d rights: %v; this test knows what becomes of 10", len(rights), rights)
	}
	must(t, s.cp.EnsureNamespace(t.Context(), "shop"))
	web := s.service("web", nil)
	s.pods("web", s.Local[0])

	p := a.start()
	s.want(web, s.Local[0])
	s.wantEvent("Starting")
	must(t, p.Stop())
	if log := p.Log(); strings.Contains(log, "forbidden") {
		t.Errorf("something is forbidden with the ClusterRole of the manifests:\n%s", log)
	}
	for i, missing := range rights {
		t.Run(missing.String(), func(t *testing.T) {
			a.allow(rights, missing)
			a.waitAllowed(missing, false)
			p := a.start()
			if missing.verb == "patch" {
				s.conflictUntil(func() bool { return strings.Contains(p.Log(), missing.advice()) }) // the second event of a kind is a patch of the first
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if missing.verb == "list" { // for API servers before 1.34 only: this one sends the first list on a watch
				must(t, p.WaitSynced(ctx))
			} else if err := p.WaitLog(ctx, missing.advice()); err != nil {
				t.Errorf("%v\n%s", err, p.Log())
			}
			a.allow(rights, right{})
			a.waitAllowed(missing, true)
			// What was missing is there again, and all is well without a restart.
			s.pods("web", s.RemotePods[i])
			s.want(web, append(s.RemotePods[:i+1:i+1], s.Local[0])...)
			must(t, p.Stop())
		})
	}
}

func rightsOf(role *rbacv1.ClusterRole) []right {
	var out []right
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					out = append(out, right{group, resource, verb})
				}
			}
		}
	}
	return out
}

// account is the ServiceAccount of the manifests.
type account struct {
	*site
	role       *rbacv1.ClusterRole
	kubeconfig string
}

// account applies the manifests.
func (s *site) account() *account {
	s.t.Helper()
	text, err := os.ReadFile(manifests)
	must(s.t, err)
	must(s.t, s.cp.Apply(s.t.Context(), string(text), true))
	must(s.t, s.cp.Apply(s.t.Context(), string(text), false))
	role, err := s.cp.Client().RbacV1().ClusterRoles().Get(s.t.Context(), "nftproxy", metav1.GetOptions{})
	must(s.t, err)
	return &account{site: s, role: role, kubeconfig: s.accountKubeconfig()}
}

// start starts nftproxy as this account.
func (a *account) start() *proxy.Process {
	a.t.Helper()
	args := append([]string{"run", "--kubeconfig", a.kubeconfig}, a.args[3:]...)
	p, err := proxy.Start(proxy.Config{Args: args, Env: []string{runEnv + "=1"}, NS: a.Node.NS})
	must(a.t, err)
	a.t.Cleanup(p.Kill)
	return p
}

// allow gives the account all rights but one.
func (a *account) allow(rights []right, but right) {
	a.t.Helper()
	role := a.role.DeepCopy()
	role.Rules, role.ResourceVersion = nil, ""
	for _, r := range rights {
		if r != but {
			role.Rules = append(role.Rules, rbacv1.PolicyRule{APIGroups: []string{r.group}, Resources: []string{r.resource}, Verbs: []string{r.verb}})
		}
	}
	_, err := a.cp.Client().RbacV1().ClusterRoles().Update(a.t.Context(), role, metav1.UpdateOptions{})
	must(a.t, err)
}

// waitAllowed waits until the API server has taken over whether the account has a right.
func (a *account) waitAllowed(r right, want bool) {
	a.t.Helper()
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "system:serviceaccount:kube-system:nftproxy",
		ResourceAttributes: &authorizationv1.ResourceAttributes{Group: r.group, Resource: r.resource, Verb: r.verb}}}
	ctx, cancel := context.WithTimeout(a.t.Context(), patience)
	defer cancel()
	for {
		answer, err := a.cp.Client().AuthorizationV1().SubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
		must(a.t, err)
		if answer.Status.Allowed == want {
			return
		}
		time.Sleep(5 * time.Millisecond) // ctx bounds it
	}
}

// accountKubeconfig writes one with a token of the ServiceAccount.
func (s *site) accountKubeconfig() string {
	s.t.Helper()
	token, err := s.cp.Client().CoreV1().ServiceAccounts("kube-system").CreateToken(s.t.Context(), "nftproxy",
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	must(s.t, err)
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: serverURL(s.cp.Address()), CertificateAuthority: s.cp.CAFile()}
	config.AuthInfos["nftproxy"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "nftproxy"}
	config.CurrentContext = "c"
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	must(s.t, clientcmd.WriteToFile(*config, path))
	return path
}

// wantEvent waits for an event with a reason.
func (s *site) wantEvent(reason string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		list, err := s.cp.Client().EventsV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
		must(s.t, err)
		for _, e := range list.Items {
			if e.Reason == reason && e.ReportingController == "nftproxy" {
				return
			}
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("no event %s among %d", reason, len(list.Items))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// conflictUntil makes a Service that wants what another has, again and again, until something has come of it.
func (s *site) conflictUntil(done func() bool) {
	s.t.Helper()
	external := func(svc *corev1.Service) { svc.Spec.ExternalIPs = []string{"10.99.0.1"} }
	services := s.cp.Client().CoreV1().Services("shop")
	s.service("first", external)
	s.service("second", nil)
	// Events about one object and of one reason are one to which the later ones are added.
	came := false
	for end := time.Now().Add(patience); !came && time.Now().Before(end); {
		for _, ips := range []string{`["10.99.0.1"]`, `[]`} {
			patch := []byte(`{"spec": {"externalIPs": ` + ips + `}}`)
			_, err := services.Patch(s.t.Context(), "second", types.MergePatchType, patch, metav1.PatchOptions{})
			must(s.t, err)
			for try := 0; try < 10 && !came; try++ {
				time.Sleep(50 * time.Millisecond)
				came = done()
			}
		}
	}
	if !came {
		s.t.Errorf("nothing came of Services with the same external address within %v", patience)
	}
	must(s.t, services.Delete(s.t.Context(), "second", metav1.DeleteOptions{}))
	must(s.t, services.Delete(s.t.Context(), "first", metav1.DeleteOptions{}))
}

// TestManifestsForTheAPIServer applies what the chart renders, in each of its variants, to
// a real API server: it must know every field, and take every value.
func TestManifestsForTheAPIServer(t *testing.T) {
	s := newSite(t)
	files, err := filepath.Glob("../../e2e/chart/testdata/*.yaml")
	must(t, err)
	if len(files) == 0 {
		t.Fatal("the chart's tests have no renderings")
	}
	for _, file := range append(files, manifests) {
		text, err := os.ReadFile(file)
		must(t, err)
		must(t, s.cp.EnsureNamespace(t.Context(), "proxy"))
		if err := s.cp.Apply(t.Context(), known(string(text)), true); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// known returns the documents without those of the Prometheus operator.
func known(text string) string {
	var out []string
	for document := range strings.SplitSeq(text, "\n---\n") {
		if !strings.Contains(document, "monitoring.coreos.com") {
			out = append(out, document)
		}
	}
	return strings.Join(out, "\n---\n")
}
