// SPDX-License-Identifier: Apache-2.0

package rulestest

import (
	"fmt"
	"net/netip"
	"reflect"
	"time"
	"unsafe"

	"github.com/nftproxy/nftproxy/rules"
)

// Filled returns a value none of whose fields is zero, however deep, exported or not.
func Filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem(), 1)
	return v
}

// Flips calls fn for each field of a filled value, however deep, with a value that differs in that field only. Slices,
// maps and pointers are made empty, too.
func Flips[T any](fn func(field string, flipped T)) {
	for n := 0; ; n++ {
		v := Filled[T]()
		w := walk{left: n}
		w.visit(reflect.ValueOf(&v).Elem(), "")
		if w.field == "" {
			return
		}
		fn(w.field, v)
	}
}

// walk flips one leaf: the one that comes after so many others.
type walk struct {
	left  int
	field string // of the leaf
}

// leaf says whether this leaf is the one.
func (w *walk) leaf(field string) bool {
	if w.field != "" {
		return false
	}
	if w.left--; w.left >= 0 {
		return false
	}
	w.field = field
	return true
}

func (w *walk) visit(v reflect.Value, field string) {
	v = settable(v)
	if flipped(v.Type()) {
		if w.leaf(field) {
			fill(v, 2)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			w.visit(v.Field(i), field+"."+v.Type().Field(i).Name)
		}
	case reflect.Array:
		for i := range v.Len() {
			w.visit(v.Index(i), fmt.Sprintf("%s[%d]", field, i))
		}
	case reflect.Slice:
		if w.leaf(field + " (empty)") {
			v.SetZero()
			return
		}
		w.visit(v.Index(0), field+"[0]")
	case reflect.Pointer:
		if w.leaf(field + " (nil)") {
			v.SetZero()
			return
		}
		w.visit(v.Elem(), field)
	case reflect.Map:
		if w.leaf(field + " (empty)") {
			v.Clear()
			return
		}
		key := v.MapKeys()[0]
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		w.visit(value, field+"[]")
		v.SetMapIndex(key, value)
	default:
		if w.leaf(field) {
			fill(v, 2)
		}
	}
}

// flipped says that a type is one value, whatever it is made of.
func flipped(t reflect.Type) bool {
	_, ok := special(t, 1)
	return ok
}

// settable makes unexported fields settable.
func settable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem() // for tests only
	}
	return v
}

// special returns the n-th value of types that are not to be filled field by field.
func special(t reflect.Type, n int) (reflect.Value, bool) {
	addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})
	for _, v := range []any{addr, netip.PrefixFrom(addr, 32), netip.AddrPortFrom(addr, uint16(n)), time.Unix(int64(n), 0)} {
		if reflect.TypeOf(v) == t {
			return reflect.ValueOf(v), true
		}
	}
	if t == reflect.TypeFor[rules.Statement]() {
		return reflect.ValueOf([]rules.Statement{rules.Drop{}, rules.Return{}}[n-1]), true
	}
	return reflect.Value{}, false
}

// fill sets all of a value to the n-th value of its type.
func fill(v reflect.Value, n int) {
	v = settable(v)
	if s, ok := special(v.Type(), n); ok {
		v.Set(s)
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(n == 1)
	case reflect.String:
		v.SetString(fmt.Sprint("text-", n))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(n))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	default:
		panic(fmt.Sprintf("rulestest: no value for %s", v.Type()))
	}
}

// Shared returns the fields of two values, one of them a copy of the other, that are the same map.
func Shared(a, b any) []string {
	var out []string
	shared(reflect.ValueOf(a), reflect.ValueOf(b), "", &out)
	return out
}

func shared(a, b reflect.Value, field string, out *[]string) {
	if a.Type() == reflect.TypeFor[netip.Addr]() {
		return
	}
	switch a.Kind() {
	case reflect.Struct:
		for i := range a.NumField() {
			shared(a.Field(i), b.Field(i), field+"."+a.Type().Field(i).Name, out)
		}
	case reflect.Array:
		for i := range a.Len() {
			shared(a.Index(i), b.Index(i), field, out)
		}
	case reflect.Pointer:
		if !a.IsNil() && !b.IsNil() {
			shared(a.Elem(), b.Elem(), field, out)
		}
	case reflect.Map:
		if a.IsNil() {
			return
		}
		if a.Pointer() == b.Pointer() {
			*out = append(*out, field)
			return
		}
		for _, k := range a.MapKeys() {
			if other := b.MapIndex(k); other.IsValid() {
				shared(a.MapIndex(k), other, field+"[]", out)
			}
		}
	}
}
