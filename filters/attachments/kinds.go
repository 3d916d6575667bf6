package attachments

import (
	"slices"
	"strings"

	"postern/filters"
)

// A kind is what an attachment is good for: a word of the match key
// attachment.
type kind string

const (
	executable       kind = "executable"
	script           kind = "script"
	macro            kind = "macro"
	office           kind = "office"
	archive          kind = "archive"
	encryptedArchive kind = "encrypted-archive"
	encryptedFile    kind = "encrypted-document"
	notOpened        kind = "archive-not-opened"
	oddArchive       kind = "archive-ambiguous"
	diskImage        kind = "disk-image"
	shortcut         kind = "shortcut"
	installer        kind = "installer"
	java             kind = "java"
	registry         kind = "registry"
	oneNote          kind = "onenote"
	html             kind = "html"
	svg              kind = "svg"
	pdf              kind = "pdf"
	text             kind = "text"
	image            kind = "image"
	audio            kind = "audio"
	video            kind = "video"
	font             kind = "font"
	message          kind = "message"
	crypto           kind = "crypto"
	partial          kind = "partial"
	externalBody     kind = "external-body"
	unknown          kind = "unknown"
	mismatch         kind = "mismatch"
	doubleExtension  kind = "double-extension"
	disguisedName    kind = "disguised-name"
)

// A kindDoc describes a kind.
type kindDoc struct {
	kind   kind
	symbol string
	score  float64
	doc    string
	docFR  string
}

// kinds is every kind, in the order of the manual.
var kinds = []kindDoc{
	{executable, "ATTACHMENT_EXECUTABLE", 5, "An attachment is a program.", "Une pièce jointe est un programme."},
	{script, "ATTACHMENT_SCRIPT", 4, "An attachment is a script that a computer would run.", "Une pièce jointe est un script qu’un ordinateur exécuterait."},
	{macro, "ATTACHMENT_MACRO", 3, "An attachment is an office document with macros.", "Une pièce jointe est un document bureautique avec des macros."},
	{office, "ATTACHMENT_OFFICE", 0, "An attachment is an office document.", "Une pièce jointe est un document bureautique."},
	{archive, "ATTACHMENT_ARCHIVE", 0, "An attachment is an archive.", "Une pièce jointe est une archive."},
	{encryptedArchive, "ATTACHMENT_ENCRYPTED_ARCHIVE", 2, "An attachment is an archive with encrypted members, which nobody can check.", "Une pièce jointe est une archive chiffrée, que personne ne peut contrôler."},
	{encryptedFile, "ATTACHMENT_ENCRYPTED_DOCUMENT", 1, "An attachment is a document that needs a password.", "Une pièce jointe est un document protégé par un mot de passe."},
	{notOpened, "ARCHIVE_NOT_OPENED", 0.5, "An archive, or a part of it, could not be opened, so what it holds was not checked.", "Une archive n’a pas pu être ouverte en entier : son contenu n’a pas été contrôlé."},
	{oddArchive, "ARCHIVE_AMBIGUOUS", 3, "Programs read an archive differently: it hides members or gives them several names.", "Une archive se lit différemment selon le logiciel : elle cache des fichiers ou leur donne plusieurs noms."},
	{diskImage, "ATTACHMENT_DISK_IMAGE", 4, "An attachment is a disk image, which hides where files come from.", "Une pièce jointe est une image disque, qui cache l’origine des fichiers."},
	{shortcut, "ATTACHMENT_SHORTCUT", 4, "An attachment is a shortcut that starts something else.", "Une pièce jointe est un raccourci qui lance autre chose."},
	{installer, "ATTACHMENT_INSTALLER", 4, "An attachment installs software.", "Une pièce jointe installe un logiciel."},
	{java, "ATTACHMENT_JAVA", 4, "An attachment is a Java program.", "Une pièce jointe est un programme Java."},
	{registry, "ATTACHMENT_REGISTRY", 4, "An attachment changes the settings of Windows.", "Une pièce jointe modifie les réglages de Windows."},
	{oneNote, "ATTACHMENT_ONENOTE", 3, "An attachment is a OneNote notebook, which can carry programs.", "Une pièce jointe est un bloc-notes OneNote, qui peut contenir des programmes."},
	{html, "ATTACHMENT_HTML", 0.5, "An attachment is a web page.", "Une pièce jointe est une page web."},
	{svg, "ATTACHMENT_SVG", 1, "An attachment is an SVG drawing, which can carry scripts.", "Une pièce jointe est un dessin SVG, qui peut contenir des scripts."},
	{pdf, "ATTACHMENT_PDF", 0, "An attachment is a PDF document.", "Une pièce jointe est un document PDF."},
	{text, "ATTACHMENT_TEXT", 0, "An attachment is plain text.", "Une pièce jointe est du texte."},
	{image, "ATTACHMENT_IMAGE", 0, "An attachment is an image.", "Une pièce jointe est une image."},
	{audio, "ATTACHMENT_AUDIO", 0, "An attachment is a sound.", "Une pièce jointe est un son."},
	{video, "ATTACHMENT_VIDEO", 0, "An attachment is a video.", "Une pièce jointe est une vidéo."},
	{font, "ATTACHMENT_FONT", 0, "An attachment is a font.", "Une pièce jointe est une police de caractères."},
	{message, "ATTACHMENT_MESSAGE", 0, "An attachment is a message.", "Une pièce jointe est un message."},
	{crypto, "ATTACHMENT_CRYPTO", 0, "An attachment is a key, a certificate, a signature or encrypted mail.", "Une pièce jointe est une clé, un certificat, une signature ou un message chiffré."},
	{partial, "ATTACHMENT_PARTIAL", 5, "The message is a piece of a larger one, which only the mail client puts together.", "Le message est un morceau d’un plus grand, que seul le client assemble."},
	{externalBody, "ATTACHMENT_EXTERNAL_BODY", 3, "An attachment lies elsewhere, and the mail client would fetch it.", "Une pièce jointe se trouve ailleurs, et c’est le client qui la chargerait."},
	{unknown, "ATTACHMENT_UNKNOWN", 0, "Nobody knows what an attachment is.", "On ne sait pas ce qu’est une pièce jointe."},
	{mismatch, "ATTACHMENT_MISMATCH", 1.5, "An attachment is not what its name or type says.", "Une pièce jointe n’est pas ce que dit son nom ou son type."},
	{doubleExtension, "ATTACHMENT_DOUBLE_EXTENSION", 4, "The name of an attachment ends like a document and then like something that runs.", "Le nom d’une pièce jointe finit comme un document, puis comme un programme."},
	{disguisedName, "ATTACHMENT_DISGUISED_NAME", 4, "The name of an attachment is written so that people misread it.", "Le nom d’une pièce jointe est écrit pour tromper le lecteur."},
}

// symbolNamed carries the name of an attachment as its label.
const symbolNamed = "ATTACHMENT_NAMED"

// symbols declares a symbol for each kind.
func symbols() []filters.SymbolDoc {
	var docs []filters.SymbolDoc
	for _, k := range kinds {
		docs = append(docs, filters.SymbolDoc{Name: k.symbol, Score: k.score, Doc: k.doc, DocFR: k.docFR})
	}
	return append(docs, filters.SymbolDoc{
		Name: symbolNamed, Doc: "An attachment has this name.", DocFR: "Une pièce jointe porte ce nom.",
	})
}

// values declares a value of the match key for each kind.
func values() []filters.KeyValue {
	var all []filters.KeyValue
	for _, k := range kinds {
		all = append(all, filters.KeyValue{Word: string(k.kind), Symbols: []string{k.symbol}})
	}
	return all
}

// runs holds the kinds of which a double click starts something.
var runs = []kind{executable, script, macro, diskImage, shortcut, installer, java, registry, oneNote, html, svg}

// documents holds the kinds that people think harmless.
var documents = []kind{office, pdf, text, image, audio, video, message, archive, html}

// opaque holds the kinds that only their bytes can tell: where a mail has them
// as its body, they are worth a word.
var opaque = []kind{
	executable, macro, office, archive, encryptedArchive, encryptedFile, notOpened, oddArchive, diskImage, installer, java,
	oneNote, pdf, partial, externalBody, doubleExtension, disguisedName,
}

// same lists kinds that may well be taken for each other: neither is a lie
// about the other.
var same = [][]kind{
	{text, html, svg, script, registry, shortcut, message, crypto, office},
	{office, macro, encryptedFile, oneNote},
	{archive, encryptedArchive, java, installer, office, macro},
	{installer, executable, archive},
	{image, svg}, {audio, video}, {image, pdf}, {image, audio, video},
	{message, office}, {diskImage, archive}, {crypto, archive},
}

// agree reports whether a file of kind real may be called a named.
func agree(named, real kind) bool {
	if named == real || named == "" || real == "" || named == unknown || real == unknown {
		return true
	}
	for _, group := range same {
		if slices.Contains(group, named) && slices.Contains(group, real) {
			return true
		}
	}
	return false
}

// extensions maps the end of a name, in lower case, to a kind.
var extensions = func() map[string]kind {
	m := map[string]kind{}
	for _, row := range extensionRows {
		for _, e := range strings.Fields(row.list) {
			m[e] = row.kind
		}
	}
	return m
}()

// extensionRows is the table that extensions is made from.
var extensionRows = []struct {
	kind kind
	list string
}{
	{executable, `exe com scr pif cpl dll sys drv ocx xll wll vxd efi mui 386 prg elf so ko o dylib bundle app out axf
		puff gadget bpl ax acm rll tsp dex wasm swf xbe xex`},
	{script, `js jse mjs cjs jsx vbs vbe vb vbscript wsf wsh wsc ws hta sct ps1 ps1xml ps2 ps2xml psc1 psc2 psm1 psd1 pssc
		msh msh1 msh2 mshxml msh1xml msh2xml bat cmd btm sh bash zsh ksh csh tcsh fish command tool py pyc pyo pyw pyz pyzw
		pl pm rb php php3 php4 php5 phtml phar lua tcl applescript scpt scptd action workflow osas ahk au3 a3x inf ins
		isp its job msc chm hlp xsl xslt asp aspx jsp shar shb xbap nsh osd mav maf mag mam maq mar mas mat mau maw`},
	{macro, `docm dotm xlsm xltm xlsb xlam xla xlm xl4 pptm potm ppam ppsm sldm ppa vsdm vstm vssm accda accdb accde accdr
		accdt ade adp mda mdb mde mdt mdw mdz slk iqy oqy dqy rqy wbk wiz sylk`},
	{office, `doc dot docx dotx xls xlt xlw xlsx xltx ppt pot pps pptx potx ppsx sldx sldm rtf odt ods odp odg odf odb ott ots
		otp otg fodt fods fodp vsd vsdx vss vst pub mpp mpt wpd wps wri pages numbers key hwp hwpx thmx xps oxps`},
	{archive, `zip zipx rar r00 r01 rev 7z tar tgz gz gzip bz2 bz tbz tbz2 xz txz lz tlz lzma lzo lz4 zst tzst zstd z taz lzh lha
		ace arj cab arc cpio uu uue xxe hqx sit sitx sea alz egg zoo ar a xar pax tnef pst ost warc paq br wsz cbz cbr epub`},
	{diskImage, `iso img udf vhd vhdx avhd avhdx vmdk vdi qcow qcow2 dmg wim swm esd toast nrg mdf mds cdr daa uif ima vfd
		ccd cue isz smi sparseimage sparsebundle`},
	{shortcut, `lnk url scf library-ms search-ms searchconnector-ms settingcontent-ms appcontent-ms website webloc inetloc
		fileloc desktop desklink mapimail xnk mcf rdp rdpw mad theme themepack deskthemepack appref-ms glk symlink printerexport
		wcx contact group ica vcw ms-its`},
	{installer, `msi msp msu msix msixbundle appx appxbundle appinstaller application deb rpm pkg mpkg apk apkm xapk aab ipa
		xpi crx vsix vsto diagcab diagcfg diagpkg flatpak snap appimage run nupkg gem whl`},
	{java, `jar jnlp class war ear jad`},
	{registry, `reg pol admx adm`},
	{oneNote, `one onetoc onetoc2 onepkg`},
	{html, `html htm shtml shtm xhtml xht mht mhtml dhtml htt htx`},
	{svg, `svg svgz`},
	{pdf, `pdf fdf xdp pdfxml`},
	{text, `txt text csv tsv log md markdown json xml yaml yml ini conf cfg ics ical ifb vcf vcs srt diff patch tex bib nfo rst toml css`},
	{image, `png jpg jpeg jpe jfif gif bmp dib tif tiff webp heic heif avif ico cur psd wmf emf wmz emz jp2 jxl ai eps ps raw
		dng cr2 nef xcf tga pcx dwg dxf`},
	{audio, `mp3 wav flac ogg oga m4a aac wma aif aiff mid midi opus amr weba m3u`},
	{video, `mp4 m4v mov avi mkv webm wmv flv mpg mpeg 3gp 3g2 ogv mts asf`},
	{font, `ttf otf ttc woff woff2 eot fon pfb pfm`},
	{message, `eml msg mbox mbx emlx oft nws`},
	{crypto, `asc pgp gpg sig p7s p7m p7c p7b p7r p10 pfx p12 cer crt der pem kdbx`},
}

// mediaTypes maps what a Content-Type says to a kind. Types that are not here
// go by their first half.
var mediaTypes = map[string]kind{
	"application/x-msdownload": executable, "application/x-msdos-program": executable, "application/x-dosexec": executable,
	"application/exe": executable, "application/x-exe": executable, "application/vnd.microsoft.portable-executable": executable,
	"application/x-executable": executable, "application/x-sharedlib": executable, "application/x-mach-binary": executable,
	"application/x-elf": executable, "application/x-object": executable, "application/wasm": executable,
	"application/x-shockwave-flash": executable, "application/x-ms-installer": installer, "application/x-msi": installer,
	"application/hta": script, "application/javascript": script, "application/x-javascript": script, "application/ecmascript": script,
	"text/javascript": script, "text/ecmascript": script, "text/vbscript": script, "application/x-vbscript": script, "text/scriptlet": script,
	"application/x-sh": script, "application/x-shellscript": script, "text/x-shellscript": script, "text/x-sh": script,
	"application/x-bat": script, "application/bat": script, "application/x-python": script, "text/x-python": script, "application/x-perl": script,
	"application/x-php": script, "text/x-php": script, "text/x-perl": script, "text/x-lua": script, "text/x-tcl": script, "application/x-python-code": script,
	"application/x-powershell": script, "application/vnd.ms-htmlhelp": script, "application/x-chm": script,
	"application/zip": archive, "application/x-zip-compressed": archive, "application/x-zip": archive, "application/x-rar-compressed": archive,
	"application/vnd.rar": archive, "application/x-rar": archive, "application/x-7z-compressed": archive, "application/x-tar": archive,
	"application/gzip": archive, "application/x-gzip": archive, "application/x-bzip2": archive, "application/x-xz": archive,
	"application/zstd": archive, "application/vnd.ms-cab-compressed": archive, "application/x-cpio": archive, "application/x-archive": archive,
	"application/lzip": archive, "application/x-lzip": archive, "application/x-compress": archive, "application/x-compressed": archive,
	"application/mac-binhex40": archive, "application/ms-tnef": archive, "application/vnd.ms-tnef": archive, "application/x-unix-archive": archive,
	"application/epub+zip": archive, "application/warc": archive, "application/x-lha": archive, "application/x-arj": archive,
	"application/x-iso9660-image": diskImage, "application/x-cd-image": diskImage, "application/x-apple-diskimage": diskImage, "application/x-raw-disk-image": diskImage,
	"application/x-ms-shortcut": shortcut, "application/x-mswinurl": shortcut, "application/internet-shortcut": shortcut,
	"application/x-debian-package": installer, "application/vnd.debian.binary-package": installer, "application/x-rpm": installer,
	"application/vnd.android.package-archive": installer, "application/x-xpinstall": installer, "application/x-chrome-extension": installer,
	"application/jar": java, "application/java-archive": java, "application/x-java-applet": java, "application/java-vm": java,
	"application/x-java-jnlp-file": java, "application/onenote": oneNote, "application/msonenote": oneNote,
	"application/xhtml+xml": html, "image/svg+xml": svg, "application/pdf": pdf, "application/x-pdf": pdf, "application/vnd.fdf": pdf,
	"application/json": text, "application/xml": text, "application/postscript": image, "application/ogg": audio,
	"application/msword": office, "application/vnd.ms-excel": office, "application/vnd.ms-powerpoint": office, "application/rtf": office,
	"application/vnd.ms-publisher": office, "application/vnd.visio": office, "application/vnd.ms-project": office, "application/x-ole-storage": office, "text/rtf": office,
	"application/vnd.ms-word.document.macroenabled.12": macro, "application/vnd.ms-word.template.macroenabled.12": macro,
	"application/vnd.ms-excel.sheet.macroenabled.12": macro, "application/vnd.ms-excel.template.macroenabled.12": macro,
	"application/vnd.ms-excel.sheet.binary.macroenabled.12": macro, "application/vnd.ms-excel.addin.macroenabled.12": macro,
	"application/vnd.ms-powerpoint.presentation.macroenabled.12": macro, "application/vnd.ms-powerpoint.slideshow.macroenabled.12": macro,
	"application/vnd.ms-powerpoint.addin.macroenabled.12": macro, "application/vnd.ms-powerpoint.template.macroenabled.12": macro,
	"application/x-msaccess": macro, "application/vnd.ms-access": macro, "application/vnd.ms-outlook": message,
	"message/rfc822": message, "message/global": message, "message/partial": partial, "message/external-body": externalBody,
	"application/pgp-signature": crypto, "application/pgp-encrypted": crypto, "application/pgp-keys": crypto, "application/pkcs7-signature": crypto,
	"application/x-pkcs7-signature": crypto, "application/pkcs7-mime": crypto, "application/x-pkcs7-mime": crypto, "application/pkix-cert": crypto,
	"application/x-pkcs12": crypto, "application/x-x509-ca-cert": crypto, "application/vnd.ms-fontobject": font,
	"text/html": html, "text/xml": text,
}

// kindOfType returns the kind that a media type means; "" if it means none.
func kindOfType(mediaType string) kind {
	if k, ok := mediaTypes[mediaType]; ok {
		return k
	}
	first, second, _ := strings.Cut(mediaType, "/")
	switch first {
	case "text", "image", "audio", "video", "font":
		return kind(first)
	}
	switch {
	case strings.HasPrefix(second, "vnd.openxmlformats-officedocument."), strings.HasPrefix(second, "vnd.oasis.opendocument."):
		return office
	case strings.HasPrefix(second, "font-"), strings.HasPrefix(second, "x-font-"):
		return font
	}
	return ""
}
