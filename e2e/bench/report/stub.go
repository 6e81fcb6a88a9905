package report

import "io"

func Write(dir string, r *Results) error             { return r.Save(dir) }
func WriteComparison(w io.Writer, a, b *Results) int { return 0 }
