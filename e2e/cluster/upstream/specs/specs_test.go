// SPDX-License-Identifier: Apache-2.0

// Package specs is Kubernetes' e2e.test with those specs that a Service proxy has a part in: sig-network's. All else
// would be linked in and not run. See package github.com/nftproxy/nftproxy/e2e/upstream.
package specs

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"k8s.io/component-base/version"
	"k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/e2e/common"
	_ "k8s.io/kubernetes/test/e2e/feature" // all names of features, before the first spec
	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/framework/metrics/init"
	_ "k8s.io/kubernetes/test/e2e/framework/node/init"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	_ "k8s.io/kubernetes/test/e2e/network"
	manifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	"github.com/nftproxy/nftproxy/e2e/upstream"
)

// suite is set where the specs are to be run: `go test ./...` has no cluster for them.
const suite = "NFTPROXY_UPSTREAM_SPECS"

func TestMain(m *testing.M) {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	if os.Getenv(suite) == "" {
		os.Exit(m.Run())
	}
	testfiles.AddFileSource(manifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	fmt.Println("e2e.test of Kubernetes", version.Get())
	os.Exit(m.Run())
}

func TestE2E(t *testing.T) {
	if os.Getenv(suite) == "" {
		t.Skip("it needs a cluster: use make e2e-upstream")
	}
	e2e.RunE2ETests(t)
}

// TestEverySpecIsDecidedOf: each of upstream's specs is in specs.tsv, as one that is run or with the reason why not.
func TestEverySpecIsDecidedOf(t *testing.T) {
	if os.Getenv(suite) != "" {
		t.Skip("this is the program that it starts")
	}
	list, err := upstream.Specs()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "--list-tests")
	cmd.Env = append(os.Environ(), suite+"=1")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("list specs: %v\n%s", err, text)
	}
	if err := upstream.Compare(list, string(text)); err != nil {
		t.Error(err)
	}
}
