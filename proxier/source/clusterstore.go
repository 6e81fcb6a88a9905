// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// store is what a reflector writes into: it stores nothing and hands each object on.
type store[T metav1.Object] struct {
	mu      *sync.Mutex // held during each call to the sink; shared by the stores of all kinds
	replace func([]T)
	update  func(T)
	remove  func(namespace, name string)
}

var _ cache.TransformingStore = store[metav1.Object]{}

func (s store[T]) call(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// Add implements cache.ReflectorStore.
func (s store[T]) Add(obj any) error { return s.Update(obj) }

// Update implements cache.ReflectorStore.
func (s store[T]) Update(obj any) error {
	o, err := own[T](obj)
	if err != nil {
		return err
	}
	s.call(func() { s.update(o) })
	return nil
}

// Delete implements cache.ReflectorStore.
func (s store[T]) Delete(obj any) error {
	o, err := own[T](obj)
	if err != nil {
		return err
	}
	s.call(func() { s.remove(o.GetNamespace(), o.GetName()) })
	return nil
}

// Replace implements cache.ReflectorStore.
func (s store[T]) Replace(list []any, _ string) error {
	objects := make([]T, 0, len(list))
	for _, obj := range list {
		o, err := own[T](obj)
		if err != nil {
			return err
		}
		objects = append(objects, o)
	}
	s.call(func() { s.replace(objects) })
	return nil
}

// Resync implements cache.ReflectorStore. The sink never needs to be told again.
func (s store[T]) Resync() error { return nil }

// Transformer implements cache.TransformingStore: the first list, when it comes through a watch, is collected without what nobody reads.
func (s store[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(metav1.Object); ok {
			o.SetManagedFields(nil)
		}
		return obj, nil
	}
}

// own checks the type of a decoded object and drops what nobody reads.
func own[T metav1.Object](obj any) (T, error) {
	o, ok := obj.(T)
	if !ok {
		return o, fmt.Errorf("take object from the API server: want %T, got %T", o, obj)
	}
	o.SetManagedFields(nil)
	return o, nil
}
