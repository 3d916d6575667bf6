package attachments

import (
	"strings"
	"testing"
)

func TestIdentify(t *testing.T) {
	at := func(offset int, magic string) string {
		return strings.Repeat("\x00", offset) + magic + strings.Repeat("\x00", 64)
	}
	for _, test := range []struct {
		head string
		want kind
	}{
		{"", text}, {"hello", text}, {program, executable}, {"MZ", executable}, {"MZ is how a name of a car begins, and so on and on and on.", text},
		{"\x7fELF\x02\x01\x01", executable}, {"\xca\xfe\xba\xbe\x00\x00\x00\x02\x01", executable}, {"\xca\xfe\xba\xbe\x00\x00\x00\x34\x01", java},
		{"CWS\x09" + strings.Repeat("\x01", 30), unknown}, {"CWS\x0b" + strings.Repeat("\x01", 30), executable},
		{"CWS is a word that text may begin with.", text},
		{"0707070000001", text}, {"070701" + strings.Repeat("0", 104), archive}, {"0707 12 34 56 is a telephone number", text},
		{"!!-lh5-xxxxxxxxxxxxxxxxxxxxxxxxx", archive}, {at(257, "ustar"), archive}, {at(0x8001, "CD001"), diskImage}, {at(0x9001, "CD001"), diskImage},
		{at(3, "NTFS    "), diskImage}, {at(512, "EFI PART"), diskImage},
		{"PK\x03\x04", archive}, {"PK\x05\x06", archive}, {oleMagic, office}, {"{\\rtf1 x}", office}, {"{\\rt", office},
		{strings.Repeat("junk ", 100) + "%PDF-1.7", pdf}, {"#!/bin/sh\n", script}, {"\xef\xbb\xbf@echo off\r\n", script},
		{"  <html>x", html}, {"<HTML >x", html}, {"<!-- " + strings.Repeat("x", 3000) + " --><html>", html}, {"\xff\xfe<\x00h\x00t\x00m\x00l\x00>\x00", html},
		{"<?xml version='1.0'?><Invoice><Header>x</Header></Invoice>", text}, {"<?xml version='1.0'?><svg:svg xmlns:svg='http://www.w3.org/2000/svg'/>", svg},
		{"<?xml version='1.0'?><job id='x'><script language='JScript'/></job>", script}, {"<jobs/>", text}, {"[InternetShortcut]\r\nURL=x", shortcut},
		{"Windows Registry Editor Version 5.00", registry}, {"REGEDIT4", registry}, {"ID;PWXL;N;E", macro}, {"ID;Name;Price", text},
		{"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n", html}, {"begin 644 a.exe\nM", archive}, {"begin at the beginning", text},
		{"(This file must be converted with BinHex 4.0)", archive}, {"BEGIN:VCALENDAR", text},
		{"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR", image}, {"RIFF\x00\x00\x00\x00WAVEfmt ", audio}, {"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00", video},
		{"wOFF\x00\x01\x00\x00", font}, {"\x00\x01\x02\x03\x04", unknown},
	} {
		if got := identify([]byte(test.head)); got.kind != test.want {
			t.Errorf("%.40q: %s (%s), want %s", test.head, got.kind, got.what, test.want)
		}
	}
}

func TestTail(t *testing.T) {
	for content, want := range map[string]kind{
		strings.Repeat("\x01", 100_000) + "conectix" + strings.Repeat("\x00", 504): diskImage,
		strings.Repeat("\x01", 65_536) + "koly" + strings.Repeat("\x00", 508):      diskImage,
		strings.Repeat("\x01", 600): unknown, "\x01": unknown,
	} {
		got := symbolsOf(t, attach("data", []byte(content)))
		if len(got) != 1 || (got[0] == "DISK_IMAGE 2") != (want == diskImage) {
			t.Errorf("%d bytes: %q, want %s", len(content), got, want)
		}
	}
}

func TestAgree(t *testing.T) {
	for _, test := range []struct {
		named, real kind
		want        bool
	}{
		{pdf, pdf, true}, {pdf, executable, false}, {office, macro, true}, {archive, office, true}, {image, svg, true}, {image, archive, false},
		{"", executable, true}, {pdf, unknown, true}, {text, html, true}, {audio, executable, false},
	} {
		if got := agree(test.named, test.real); got != test.want {
			t.Errorf("%s named %s: %v", test.real, test.named, got)
		}
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add([]byte("<html"))
	f.Add([]byte("\xff\xfe<"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if got := identify(head); got.kind == "" || got.what == "" {
			t.Errorf("%q: %+v", head, got)
		}
	})
}
