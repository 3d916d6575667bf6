package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// migrations holds one file per schema version: 0001_name.sql leads from
// version 0 to 1. A released file never changes.
//
//go:embed migrations/*.sql
var migrations embed.FS

// A newerError is a schema that this program does not know.
type newerError struct{ have, know int }

func (e *newerError) Error() string {
	return fmt.Sprintf("its schema is version %d, this program knows versions up to %d", e.have, e.know)
}

// migrate brings the schema up to date: one transaction for each step, so that
// a crash leaves a version that the next start can go on from.
func migrate(ctx context.Context, conn *sql.Conn, files fs.FS) error {
	steps, err := fs.Glob(files, "migrations/*.sql") // sorted
	if err != nil {
		return err
	}
	var exists, have int
	if err := conn.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'schema_version'").Scan(&exists); err != nil {
		return err
	}
	if exists > 0 {
		if err := conn.QueryRowContext(ctx, "SELECT coalesce(max(version), 0) FROM schema_version").Scan(&have); err != nil {
			return err
		}
	}
	if have > len(steps) {
		return &newerError{have, len(steps)}
	}
	for i, name := range steps[have:] {
		version := have + i + 1
		base := strings.TrimPrefix(name, "migrations/")
		if n, err := strconv.Atoi(base[:4]); err != nil || n != version {
			return fmt.Errorf("migration %s: expected number %d", base, version)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		script := "BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL);" +
			string(text) + "; INSERT INTO schema_version VALUES (" + strconv.Itoa(version) + "); COMMIT;"
		if _, err := conn.ExecContext(ctx, script); err != nil {
			conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // there may be nothing to roll back
			return fmt.Errorf("migrate to schema %d: %w", version, err)
		}
	}
	return nil
}
