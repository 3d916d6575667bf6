package attachments

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf16"

	"github.com/gabriel-vasile/mimetype"
)

// headSize is how much of a file is looked at: an ISO image names itself at
// 0x8001, 0x8801 or 0x9001.
const headSize = 40 << 10

// tailSize is how much of the end of a file is looked at: a fixed VHD image and
// a DMG image name themselves in the last 512 bytes.
const tailSize = 512

// A format is what the bytes of a file are.
type format struct {
	kind kind
	what string // for the evidence: "Windows program"
}

// A signature is a run of bytes at a fixed place.
type signature struct {
	at    int
	magic string
	format
}

// signatures is in order: the first that fits names the file.
var signatures = []signature{
	{0, "\x7fELF", format{executable, "Linux program"}},
	{0, "\xfe\xed\xfa\xce", format{executable, "macOS program"}},
	{0, "\xfe\xed\xfa\xcf", format{executable, "macOS program"}},
	{0, "\xce\xfa\xed\xfe", format{executable, "macOS program"}},
	{0, "\xcf\xfa\xed\xfe", format{executable, "macOS program"}},
	{0, "dex\n0", format{executable, "Android program"}},
	{0, "\x00asm", format{executable, "WebAssembly program"}},
	{0, "#@~^", format{script, "encoded Windows script"}},
	{0, "ITSF", format{script, "compiled Windows help"}},
	{0, "?_\x03\x00", format{script, "Windows help"}},
	{0, "L\x00\x00\x00\x01\x14\x02\x00", format{shortcut, "Windows shortcut"}},
	{0, "\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", format{oneNote, "OneNote section"}},
	{0, "\xa1\x2f\xff\x43\xd9\xef\x76\x4c\x9e\xe2\x10\xea\x57\x22\x76\x5f", format{oneNote, "OneNote table of contents"}},
	{0, "\x00\x01\x00\x00Standard Jet DB", format{macro, "Access database"}},
	{0, "\x00\x01\x00\x00Standard ACE DB", format{macro, "Access database"}},
	{0, "ActiveMime", format{macro, "ActiveMime document"}},
	{0, "regf", format{registry, "Windows registry hive"}},
	{0, "!<arch>\ndebian-binary", format{installer, "Debian package"}},
	{0, "\xed\xab\xee\xdb", format{installer, "RPM package"}},
	{0, "xar!", format{installer, "macOS installer"}},
	{0, "Cr24", format{installer, "Chrome extension"}},
	{0, "Rar!\x1a\x07", format{archive, "RAR archive"}},
	{0, "RE\x7e\x5e", format{archive, "RAR archive"}},
	{0, "7z\xbc\xaf\x27\x1c", format{archive, "7z archive"}},
	{0, "\x1f\x8b", format{archive, "gzip file"}},
	{0, "BZh", format{archive, "bzip2 file"}},
	{0, "\xfd7zXZ\x00", format{archive, "xz file"}},
	{0, "\x28\xb5\x2f\xfd", format{archive, "Zstandard file"}},
	{0, "\x04\x22\x4d\x18", format{archive, "LZ4 file"}},
	{0, "LZIP", format{archive, "lzip file"}},
	{0, "\x5d\x00\x00", format{archive, "LZMA file"}},
	{0, "\x89LZO\x00", format{archive, "LZO file"}},
	{0, "\x1f\x9d", format{archive, "compress file"}},
	{0, "\x1f\xa0", format{archive, "LZH file"}},
	{0, "MSCF", format{archive, "Cabinet archive"}},
	{0, "ISc(", format{archive, "InstallShield archive"}},
	{0, "\x60\xea", format{archive, "ARJ archive"}},
	{7, "**ACE**", format{archive, "ACE archive"}},
	{20, "\xdc\xa7\xc4\xfd", format{archive, "ZOO archive"}},
	{0, "ALZ\x01", format{archive, "ALZ archive"}},
	{0, "EGGA", format{archive, "EGG archive"}},
	{0, "StuffIt", format{archive, "StuffIt archive"}},
	{0, "SIT!", format{archive, "StuffIt archive"}},
	{0, "\xc7\x71", format{archive, "cpio archive"}},
	{257, "ustar", format{archive, "tar archive"}},
	{0, "!<arch>\n", format{archive, "ar archive"}},
	{0, "\x78\x9f\x3e\x22", format{archive, "TNEF (winmail.dat)"}},
	{0, "!BDN", format{archive, "Outlook mailbox"}},
	{0, "(This file must be converted with BinHex", format{archive, "BinHex file"}},
	{0, "=ybegin ", format{archive, "yEnc file"}},
	{0, "MSWIM\x00\x00\x00", format{diskImage, "Windows image"}},
	{0, "vhdxfile", format{diskImage, "VHDX disk"}},
	{0, "conectix", format{diskImage, "VHD disk"}},
	{0, "KDMV", format{diskImage, "VMware disk"}},
	{0, "# Disk DescriptorFile", format{diskImage, "VMware disk"}},
	{0, "<<< Oracle VM VirtualBox Disk", format{diskImage, "VirtualBox disk"}},
	{0, "QFI\xfb", format{diskImage, "QEMU disk"}},
	{0, "hsqs", format{diskImage, "squashfs image"}},
	{3, "NTFS    ", format{diskImage, "NTFS image"}},
	{3, "EXFAT   ", format{diskImage, "exFAT image"}},
	{54, "FAT1", format{diskImage, "FAT image"}},
	{82, "FAT32", format{diskImage, "FAT image"}},
	{512, "EFI PART", format{diskImage, "partitioned disk"}},
	{0x8001, "CD001", format{diskImage, "ISO 9660 image"}},
	{0x8801, "CD001", format{diskImage, "ISO 9660 image"}},
	{0x9001, "CD001", format{diskImage, "ISO 9660 image"}},
	{0x8001, "BEA01", format{diskImage, "UDF image"}},
	{0x8001, "NSR0", format{diskImage, "UDF image"}},
	{0, "-----BEGIN PGP", format{crypto, "OpenPGP data"}},
	{0, "-----BEGIN ", format{crypto, "PEM data"}},
}

// zipMagics are how ZIP files begin: a member, the end of an empty archive, a
// split archive.
var zipMagics = []string{"PK\x03\x04", "PK\x05\x06", "PK\x07\x08", "PK00PK\x03\x04"}

func isZip(head []byte) bool {
	for _, m := range zipMagics {
		if bytes.HasPrefix(head, []byte(m)) {
			return true
		}
	}
	return false
}

const oleMagic = "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

// identify names a file by its first bytes. Containers whose kind depends on
// what they hold, ZIP and OLE, come back as archive and office.
func identify(head []byte) format {
	switch {
	case len(head) == 0:
		return format{text, "empty file"}
	case isZip(head):
		return format{archive, "ZIP archive"}
	case bytes.HasPrefix(head, []byte(oleMagic)):
		return format{office, "OLE document"}
	case isWindowsProgram(head):
		return format{executable, "Windows program"}
	case bytes.HasPrefix(head, []byte("\xca\xfe\xba\xbe")) && len(head) >= 8:
		// A Java class has its version where a universal binary has its number
		// of architectures.
		if binary.BigEndian.Uint32(head[4:]) < 40 {
			return format{executable, "macOS program"}
		}
		return format{java, "Java class"}
	}
	for i := range signatures {
		s := &signatures[i]
		if len(head) >= s.at+len(s.magic) && string(head[s.at:s.at+len(s.magic)]) == s.magic {
			return s.format
		}
	}
	if f, ok := identifyLoose(head); ok {
		return f
	}
	if i := bytes.Index(head[:min(len(head), 1024)], []byte("%PDF-")); i >= 0 {
		return format{pdf, "PDF document"}
	}
	if f, ok := identifyText(head); ok {
		return f
	}
	return identifyCommon(head)
}

// identifyLoose names files whose first bytes could be those of a text too.
func identifyLoose(head []byte) (format, bool) {
	if len(head) < 24 {
		return format{}, false
	}
	switch start := string(head[:3]); {
	case (start == "FWS" || start == "CWS" || start == "ZWS") && head[3] > 0 && head[3] < ' ' && head[3] != '\t' && head[3] != '\r' && head[3] != '\n':
		return format{executable, "Flash movie"}, true
	case head[2] == '-' && head[3] == 'l' && (head[4] == 'h' || head[4] == 'z') && head[6] == '-':
		return format{archive, "LHA archive"}, true
	case start == "070" && strings.Trim(string(head[:24]), "0123456789abcdefABCDEF") == "" && (head[3] == '7' && head[4] == '0'):
		return format{archive, "cpio archive"}, true
	}
	return format{}, false
}

// isWindowsProgram tells an MZ program from a text that begins with MZ.
func isWindowsProgram(head []byte) bool {
	if len(head) < 2 || (string(head[:2]) != "MZ" && string(head[:2]) != "ZM") {
		return false
	}
	if len(head) < 16 {
		return true
	}
	for _, c := range head[2:min(len(head), 64)] {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' || c >= 0x7f {
			return true
		}
	}
	return false
}

// An opening is how a text file of a kind begins, in lower case.
type opening struct {
	begins string
	format
}

var openings = []opening{
	{"#!", format{script, "script with an interpreter line"}},
	{"<?php", format{script, "PHP script"}},
	{"@echo off", format{script, "batch file"}},
	{"#requires -", format{script, "PowerShell script"}},
	{"windows registry editor", format{registry, "registry file"}},
	{"regedit4", format{registry, "registry file"}},
	{"[internetshortcut", format{shortcut, "internet shortcut"}},
	{"[{000214a0-0000-0000-c000-000000000046}]", format{shortcut, "internet shortcut"}},
	{"[desktop entry]", format{shortcut, "desktop entry"}},
	{"[shell]", format{shortcut, "shell command file"}},
	{"{\\rt", format{office, "RTF document"}},
	{"%!ps", format{image, "PostScript file"}},
	{"begin:vcalendar", format{text, "calendar"}},
	{"begin:vcard", format{text, "contact"}},
	{"id;p", format{macro, "SYLK sheet"}},
	{"# this is a shell archive", format{archive, "shell archive"}},
}

// A mark is what tells a text file of a kind somewhere in its beginning, in
// lower case.
var marks = []opening{
	{"<hta:application", format{script, "HTML application"}},
	{"<scriptlet", format{script, "Windows scriptlet"}},
	{"<job", format{script, "Windows script file"}},
	{"<package>", format{script, "Windows script file"}},
	{"<jnlp", format{java, "Java Web Start file"}},
	{"<svg", format{svg, "SVG drawing"}},
	{"http://www.w3.org/2000/svg", format{svg, "SVG drawing"}},
	{"w:macrospresent=\"yes\"", format{macro, "Word document in XML with macros"}},
	{"progid=\"word.document\"", format{office, "Word document in XML"}},
	{"progid=\"excel.sheet\"", format{office, "Excel sheet in XML"}},
	{"<librarydescription", format{shortcut, "Windows library"}},
	{"<persistedquery", format{shortcut, "Windows saved search"}},
	{"<pcsettings", format{shortcut, "Windows settings shortcut"}},
	{"<mmc_consolefile", format{script, "Management Console file"}},
	{"<msxsl:script", format{script, "XSL stylesheet with a script"}},
	{"<deployment", format{installer, "ClickOnce application"}},
	{"<html", format{html, "HTML page"}},
	{"<!doctype html", format{html, "HTML page"}},
	{"<head", format{html, "HTML page"}},
	{"<body", format{html, "HTML page"}},
	{"<script", format{html, "HTML page"}},
	{"<iframe", format{html, "HTML page"}},
	{"<meta", format{html, "HTML page"}},
}

// identifyText names a file that is text of a kind that computers act upon.
func identifyText(head []byte) (format, bool) {
	t := trimText(plainText(head[:min(len(head), 1024)]))
	for _, o := range openings {
		if strings.HasPrefix(t, o.begins) {
			return o.format, true
		}
	}
	if strings.HasPrefix(t, "mime-version:") || strings.HasPrefix(t, "from: <saved by") {
		if strings.Contains(t, "multipart/related") || strings.Contains(t, "text/html") {
			return format{html, "web archive (MHTML)"}, true
		}
	}
	if strings.Contains(t, "(this file must be converted with binhex") {
		return format{archive, "BinHex file"}, true
	}
	if mode, ok := strings.CutPrefix(t, "begin "); ok && len(mode) > 4 && strings.Trim(mode[:3], "01234567") == "" {
		return format{archive, "uuencoded file"}, true
	}
	if !strings.HasPrefix(t, "<") {
		return format{}, false
	}
	t = trimText(plainText(head))
	for _, m := range marks {
		if hasMark(t, m.begins) {
			return m.format, true
		}
	}
	return format{}, false
}

func trimText(t string) string { return strings.TrimLeft(t, " \t\r\n\f\v\ufeff\x00") }

// hasMark looks for a mark. One that is the start of an element must not be the
// start of a longer name.
func hasMark(t, mark string) bool {
	for {
		i := strings.Index(t, mark)
		if i < 0 {
			return false
		}
		t = t[i+len(mark):]
		if mark[0] != '<' || mark[len(mark)-1] == '>' || t == "" || strings.IndexByte(" \t\r\n\f/>", t[0]) >= 0 {
			return true
		}
	}
}

// plainText returns text in lower case, from UTF-16 if it is in that.
func plainText(b []byte) string {
	var order binary.ByteOrder
	switch {
	case len(b) < 4:
	case b[0] == 0xff && b[1] == 0xfe, b[1] == 0 && b[3] == 0 && b[0] != 0:
		order = binary.LittleEndian
	case b[0] == 0xfe && b[1] == 0xff, b[0] == 0 && b[2] == 0 && b[1] != 0:
		order = binary.BigEndian
	}
	if order == nil {
		return string(bytes.ToLower(b))
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = order.Uint16(b[2*i:])
	}
	return strings.ToLower(string(utf16.Decode(units)))
}

// hasty are types for which the library is content with two or three letters:
// the tables above know better.
const hasty = " application/vnd.microsoft.portable-executable application/x-shockwave-flash application/x-cpio "

// identifyCommon asks the library for what is left: pictures, sound, films,
// fonts, text.
func identifyCommon(head []byte) format {
	for m := mimetype.Detect(head); m != nil; m = m.Parent() {
		name, _, _ := strings.Cut(m.String(), ";")
		if strings.Contains(hasty, " "+name+" ") {
			break
		}
		if k := kindOfType(name); k != "" {
			return format{k, name}
		}
	}
	for _, c := range head {
		if c < ' ' && c != '\t' && c != '\r' && c != '\n' && c != '\f' && c != 0x1b {
			return format{unknown, "unknown content"}
		}
	}
	return format{text, "text/plain"}
}

// identifyTail names a file by its last bytes.
func identifyTail(tail []byte) (format, bool) {
	if len(tail) < tailSize {
		return format{}, false
	}
	end := tail[len(tail)-tailSize:]
	switch {
	case bytes.HasPrefix(end, []byte("conectix")), bytes.HasPrefix(end[1:], []byte("conectix")):
		return format{diskImage, "VHD disk"}, true
	case bytes.HasPrefix(end, []byte("koly")):
		return format{diskImage, "Apple disk image"}, true
	}
	return format{}, false
}
