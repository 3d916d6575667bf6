// Package spool keeps messages on disk.
package spool
