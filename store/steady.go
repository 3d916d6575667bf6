package store

import (
	"context"
	"fmt"
	"time"
)

// clockJump is how far the clock may have moved since the last call of Steady
// before that is taken for a jump.
const clockJump = 24 * time.Hour

// Steady reports whether the clock can be trusted for removing things by age.
// It is called once per sweep and keeps in r, under name, when it was called
// last. If the clock has moved by more than a day since then, it is not trusted
// until it has gone on without another jump for a whole interval: a wrong clock
// that is put right, or a right one that is put wrong for a moment, removes
// nothing.
func Steady(ctx context.Context, r Records, name string, now time.Time, interval time.Duration) (bool, error) {
	text, err := r.Setting(ctx, name)
	if err != nil {
		return false, err
	}
	var last, suspect int64
	if text != "" {
		if _, err := fmt.Sscanf(text, "%d %d", &last, &suspect); err != nil {
			return false, fmt.Errorf("setting %s: %w", name, err)
		}
	}
	at := now.Unix()
	jumped := last != 0 && max(at-last, last-at) > int64(clockJump/time.Second)
	switch {
	case jumped:
		suspect = at
	case suspect != 0 && at-suspect >= int64(interval/time.Second):
		suspect = 0
	}
	if err := r.Set(ctx, name, fmt.Sprintf("%d %d", at, suspect)); err != nil {
		return false, err
	}
	return suspect == 0, nil
}
