// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// writeArchive writes a directory as a cpio archive of the kind that the kernel reads (newc). All belongs to root.
func writeArchive(w io.Writer, root string) error {
	a := archive{w: w}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := content(path, info.Mode())
		if err != nil {
			return err
		}
		a.entry(name, unixMode(info.Mode()), data)
		return a.err
	})
	if err != nil {
		return fmt.Errorf("archive %s: %w", root, err)
	}
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

// content returns what an archive holds of a file.
func content(path string, mode fs.FileMode) ([]byte, error) {
	switch {
	case mode.IsRegular():
		return os.ReadFile(path)
	case mode.Type() == fs.ModeSymlink:
		target, err := os.Readlink(path)
		return []byte(target), err
	case mode.IsDir():
		return nil, nil
	}
	return nil, fmt.Errorf("%s is no file, directory or symbolic link", path)
}

// unixMode returns st_mode.
func unixMode(mode fs.FileMode) uint32 {
	const directory, regular, link, sticky = 0o040000, 0o100000, 0o120000, 0o1000
	out := uint32(mode.Perm())
	if mode&fs.ModeSticky != 0 {
		out |= sticky
	}
	switch mode.Type() {
	case fs.ModeDir:
		return out | directory
	case fs.ModeSymlink:
		return out | link
	}
	return out | regular
}

// archive writes entries until the first error.
type archive struct {
	w     io.Writer
	inode uint32
	err   error
}

func (a *archive) entry(name string, mode uint32, data []byte) {
	a.inode++
	header := fmt.Appendf(nil, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	a.write(padded(append(append(header, name...), 0)))
	a.write(data)
	a.write(make([]byte, -len(data)&3))
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(b)
	}
}

// padded fills up to a multiple of four bytes.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
