package main

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"fmt"
	"strings"
)

// A sample is one message of the demo.
type sample struct {
	from     string   // envelope
	to       []string // envelope
	outbound bool     // sent by our own server
	raw      bool     // sent with its line endings as they are
	subject  string   // as it is shown
	message  string
}

// demoSite is the domain of the demo's company.
const demoSite = "example.org"

// samples are the messages that the demo sends, one of each kind of fate.
func samples() []sample {
	program := "MZ\x90\x00\x03\x00\x00\x00\x04\x00\x00\x00\xff\xff\x00\x00" + strings.Repeat("\x00", 44) + "\x80\x00\x00\x00" + strings.Repeat("\x00", 64) + "PE\x00\x00L\x01"
	eicar := `X5O!P%@AP[4\PZX54(P^)7CC)7}$` + `EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*`
	pdf := "%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
	loop := strings.Repeat("Received: from a.example by b.example; Mon, 16 Nov 2026 10:00:00 +0100\r\n", 60)
	var s []sample
	add := func(x sample) { s = append(s, x) }
	plain := func(from, to, subject, body string) sample {
		return sample{from: from, to: []string{to}, subject: subject, message: headerOf(from, to, subject) + "Content-Type: text/plain; charset=utf-8\r\n\r\n" + body}
	}
	with := func(from, to, subject, body string, files ...file) sample {
		return sample{from: from, to: []string{to}, subject: subject, message: headerOf(from, to, subject) + multipart(body, files)}
	}
	add(plain("alice@partner.example", "bob@"+demoSite, "Contrat signé", "Bonjour Bob,\r\n\r\nLe contrat est signé.\r\n\r\nAlice\r\n"))
	add(plain("security@bank.example", "bob@"+demoSite, "Your account", "Please confirm your password.\r\n"))
	add(plain("director@exarnple.org", "bob@"+demoSite, "Urgent payment", "Please pay today. I am in a meeting.\r\n"))
	add(sample{from: "news@shop.example", to: []string{"bob@" + demoSite}, subject: "Autumn offers", message: headerOf("news@shop.example", "bob@"+demoSite, "Autumn offers") +
		"Content-Type: text/html; charset=utf-8\r\nList-Id: <news.shop.example>\r\n\r\n<html><body><h1>Offers</h1><p>See <a href=\"https://shop.example/o\">the list</a>.</p></body></html>\r\n"})
	add(with("carol@partner.example", "bob@"+demoSite, "Minutes of the meeting", "The minutes are attached.", file{"minutes.pdf", "application/pdf", pdf}))
	add(with("compta@fournisseur.example", "compta@"+demoSite, "Facture 2026-1187", "Votre facture.", file{"facture.docm", "application/vnd.ms-word.document.macroEnabled.12", macroDocument()}))
	add(with("orders@import.example", "bob@"+demoSite, "Your invoice", "Please pay.", file{"invoice.pdf.exe", "application/pdf", program}))
	add(with("scan@copier.example", "bob@"+demoSite, "Scanned document", "See the archive.", file{"scan.zip", "application/zip", zipOf("scan/document.scr", program)}))
	add(with("x@unknown.example", "bob@"+demoSite, "Anti-virus test", "The EICAR test file.", file{"eicar.com", "application/octet-stream", eicar}))
	add(with("dave@unknown.example", "bob@"+demoSite, "Password protected", "The password is 1234.", file{"secret.zip", "application/zip", encryptedZip()}))
	add(sample{from: "x@trick.example", to: []string{"bob@" + demoSite}, subject: "Two readings", message: headerOf("x@trick.example", "bob@"+demoSite, "Two readings") +
		"Content-Type: multipart/mixed; boundary=a\r\nContent-Type: text/plain\r\n\r\n--a\r\nContent-Type: text/plain\r\n\r\none reading\r\n--a--\r\n"})
	add(sample{from: "x@smuggler.example", to: []string{"bob@" + demoSite}, subject: "Bare line feeds", raw: true,
		message: headerOf("x@smuggler.example", "bob@"+demoSite, "Bare line feeds") + "\r\nfirst\n.\nMAIL FROM:<boss@example.org>\r\n"})
	add(sample{from: "x@loop.example", to: []string{"bob@" + demoSite}, subject: "Round and round", message: loop + headerOf("x@loop.example", "bob@"+demoSite, "Round and round") + "\r\nagain\r\n"})
	add(plain("spammer@relay.example", "victim@elsewhere.example", "Open relay?", "Please relay.\r\n"))
	add(plain("eve@partner.example", "nobody@"+demoSite, "To nobody", "Does nobody exist?\r\n"))
	out := plain("bob@"+demoSite, "alice@partner.example", "Offre de prix", "Bonjour Alice, voici notre offre.\r\n")
	out.outbound = true
	add(out)
	forged := plain("bob@"+demoSite, "alice@partner.example", "Not ours", "The author is somebody else.\r\n")
	forged.outbound = true
	forged.message = strings.Replace(forged.message, "From: bob@"+demoSite, "From: ceo@partner.example", 1)
	add(forged)
	return s
}

func headerOf(from, to, subject string) string {
	return fmt.Sprintf("From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: Mon, 16 Nov 2026 10:00:00 +0100\r\nMessage-ID: <%x@demo.example>\r\nMIME-Version: 1.0\r\n",
		from, to, encodeWord(subject), subject)
}

func encodeWord(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return "=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
		}
	}
	return s
}

// A file is an attachment.
type file struct{ name, mediaType, content string }

func multipart(body string, files []file) string {
	var b strings.Builder
	b.WriteString("Content-Type: multipart/mixed; boundary=\"=_part\"\r\n\r\n--=_part\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + body + "\r\n")
	for _, f := range files {
		fmt.Fprintf(&b, "--=_part\r\nContent-Type: %s; name=\"%s\"\r\nContent-Disposition: attachment; filename=\"%s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n", f.mediaType, f.name, f.name)
		text := base64.StdEncoding.EncodeToString([]byte(f.content))
		for len(text) > 76 {
			b.WriteString(text[:76] + "\r\n")
			text = text[76:]
		}
		b.WriteString(text + "\r\n")
	}
	b.WriteString("--=_part--\r\n")
	return b.String()
}

func zipOf(name, content string) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	if w, err := z.Create(name); err == nil {
		w.Write([]byte(content)) // into memory: cannot fail
	}
	z.Close()
	return b.String()
}

// macroDocument has what a Word document with macros has, without macros.
func macroDocument() string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, part := range [][2]string{
		{"[Content_Types].xml", `<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>`},
		{"word/document.xml", `<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"/>`},
		{"word/vbaProject.bin", "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"},
	} {
		if w, err := z.Create(part[0]); err == nil {
			w.Write([]byte(part[1]))
		}
	}
	z.Close()
	return b.String()
}

// encryptedZip is an archive whose only member says that it is encrypted.
func encryptedZip() string {
	b := []byte(zipOf("offer.txt", "twelve or more bytes of cipher text"))
	b[6] |= 1 // flags of the local header
	if i := bytes.Index(b, []byte("PK\x01\x02")); i >= 0 {
		b[i+8] |= 1 // flags in the central directory
	}
	return string(b)
}
