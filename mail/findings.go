package mail

// A Finding is something about a message that makes it read differently by
// different mail clients, that breaks a standard, or a limit that was hit.
// Where it is ambiguous, every reading is in the tree: in extra parts, in
// Part.Readings, Part.MediaTypes and Part.Names.
type Finding struct {
	Kind     FindingKind
	Part     PartID // "" is the message itself
	Offset   int64  // in the message; in the decoded content for parts that lie in decoded content
	Evidence string // what was seen, cut to a reasonable length
}

// A FindingKind names what was found. The names are stable: policies and logs
// use them.
type FindingKind string

// A FindingClass says what a finding means for the safety of the message.
type FindingClass string

const (
	Ambiguous FindingClass = "ambiguous" // mail clients may read it differently
	Limit     FindingClass = "limit"     // a limit was hit: not everything was looked at
	Malformed FindingClass = "malformed" // breaks a standard, but everybody reads it the same way
)

// The kinds of findings.
const (
	DuplicateContentType FindingKind = "duplicate-content-type"
	DuplicateEncoding    FindingKind = "duplicate-transfer-encoding"
	DuplicateDisposition FindingKind = "duplicate-disposition"
	DuplicateFrom        FindingKind = "duplicate-from"
	DuplicateSender      FindingKind = "duplicate-sender"
	DuplicateSubject     FindingKind = "duplicate-subject"
	DuplicateField       FindingKind = "duplicate-field"
	DuplicateParameter   FindingKind = "duplicate-parameter"
	OddParameter         FindingKind = "odd-parameter"
	OddContentType       FindingKind = "odd-content-type"
	ContinuationClash    FindingKind = "continuation-clash"
	NameMismatch         FindingKind = "name-mismatch"
	EncodedWordName      FindingKind = "encoded-word-name"
	NameNUL              FindingKind = "name-with-nul"

	UnknownEncoding   FindingKind = "unknown-transfer-encoding"
	EncodingClash     FindingKind = "transfer-encoding-clash"
	EncodedMultipart  FindingKind = "encoded-multipart"
	EncodedMessage    FindingKind = "encoded-message"
	BadBase64         FindingKind = "bad-base64"
	Base64AfterEnd    FindingKind = "data-after-base64-padding"
	BadQuoted         FindingKind = "bad-quoted-printable"
	OddCharset        FindingKind = "odd-charset"
	UnknownCharset    FindingKind = "unknown-charset"
	MissingMIME       FindingKind = "missing-mime-version"
	PartialMessage    FindingKind = "message-partial"
	ExternalBody      FindingKind = "message-external-body"
	UnpackFailed      FindingKind = "unpack-failed"
	EmbeddedInText    FindingKind = "file-in-text"
	BrokenEmbedded    FindingKind = "broken-file-in-text"
	BoundaryMissing   FindingKind = "boundary-missing"
	BoundaryEmpty     FindingKind = "boundary-empty"
	BoundaryDuplicate FindingKind = "boundary-duplicate"
	BoundaryOdd       FindingKind = "boundary-odd"
	BoundaryReused    FindingKind = "boundary-reused"
	BoundaryPrefix    FindingKind = "boundary-prefix"
	BoundaryPadded    FindingKind = "boundary-after-space"
	BoundaryNotFound  FindingKind = "boundary-not-found"
	BoundaryUnclosed  FindingKind = "boundary-unclosed"
	BoundaryAfterEnd  FindingKind = "boundary-after-end"
	TextAfterEnd      FindingKind = "text-after-end"
	PartInPreamble    FindingKind = "part-in-preamble"
	PartInEpilogue    FindingKind = "part-in-epilogue"

	FieldNoColon     FindingKind = "header-line-without-colon"
	FieldSpaceColon  FindingKind = "space-before-colon"
	FieldBadName     FindingKind = "bad-field-name"
	FieldFoldedName  FindingKind = "fold-before-colon"
	FieldFirstSpace  FindingKind = "header-begins-with-space"
	FieldBlankFold   FindingKind = "blank-continuation-line"
	MissingBlankLine FindingKind = "missing-blank-line"
	MissingHeader    FindingKind = "missing-header"
	MissingFrom      FindingKind = "missing-from"
	MboxLine         FindingKind = "mbox-line"
	BareCR           FindingKind = "bare-cr"
	BareLF           FindingKind = "bare-lf"
	NULByte          FindingKind = "nul-byte"
	LongLine         FindingKind = "long-line"

	LimitDepth    FindingKind = "limit-depth"
	LimitParts    FindingKind = "limit-parts"
	LimitHeader   FindingKind = "limit-header-bytes"
	LimitFields   FindingKind = "limit-fields"
	LimitDecoded  FindingKind = "limit-decoded-bytes"
	LimitTime     FindingKind = "limit-time"
	LimitReadings FindingKind = "limit-readings"
)

// A FindingDoc describes a kind of finding.
type FindingDoc struct {
	Kind  FindingKind
	Class FindingClass
	Doc   string // one plain sentence for a reviewer
	DocFR string // the same in French
}

// Findings lists every kind of finding.
var Findings = []FindingDoc{
	{DuplicateContentType, Ambiguous, "A part has several Content-Type fields.", "Une partie a plusieurs champs Content-Type."},
	{DuplicateEncoding, Ambiguous, "A part has several Content-Transfer-Encoding fields.", "Une partie a plusieurs champs Content-Transfer-Encoding."},
	{DuplicateDisposition, Ambiguous, "A part has several Content-Disposition fields.", "Une partie a plusieurs champs Content-Disposition."},
	{DuplicateFrom, Ambiguous, "The message has several From fields: clients show different authors.", "Le message a plusieurs champs From : les clients montrent des auteurs différents."},
	{DuplicateSender, Ambiguous, "The message has several Sender fields.", "Le message a plusieurs champs Sender."},
	{DuplicateSubject, Ambiguous, "The message has several Subject fields.", "Le message a plusieurs champs Subject."},
	{DuplicateField, Malformed, "A field that may stand once stands several times.", "Un champ qui doit être unique est présent plusieurs fois."},
	{DuplicateParameter, Ambiguous, "A parameter is given several times with different values.", "Un paramètre est donné plusieurs fois avec des valeurs différentes."},
	{OddParameter, Ambiguous, "A parameter is written so that clients read it differently.", "Un paramètre est écrit de façon que les clients le lisent différemment."},
	{OddContentType, Ambiguous, "A Content-Type does not follow the grammar.", "Un Content-Type ne suit pas la grammaire."},
	{ContinuationClash, Ambiguous, "Pieces of a parameter (RFC 2231) contradict each other or a plain form.", "Les morceaux d'un paramètre (RFC 2231) se contredisent ou contredisent la forme simple."},
	{NameMismatch, Ambiguous, "An attachment has different names for different clients.", "Une pièce jointe porte des noms différents selon le client."},
	{EncodedWordName, Malformed, "An attachment name is written as an encoded word.", "Un nom de pièce jointe est écrit comme mot codé."},
	{NameNUL, Ambiguous, "An attachment name holds a NUL byte.", "Un nom de pièce jointe contient un octet NUL."},
	{UnknownEncoding, Ambiguous, "A part has a transfer encoding that is not known.", "Une partie a un codage de transfert inconnu."},
	{EncodingClash, Ambiguous, "A transfer encoding field can be read in several ways.", "Un champ de codage de transfert peut se lire de plusieurs façons."},
	{EncodedMultipart, Ambiguous, "A multipart is itself encoded, which is forbidden.", "Un multipart est lui-même codé, ce qui est interdit."},
	{EncodedMessage, Malformed, "An attached message is itself encoded.", "Un message joint est lui-même codé."},
	{BadBase64, Ambiguous, "Base64 data holds characters that do not belong there.", "Des données base64 contiennent des caractères étrangers."},
	{Base64AfterEnd, Ambiguous, "Base64 data goes on after its padding.", "Des données base64 continuent après leur remplissage."},
	{BadQuoted, Malformed, "Quoted-printable data holds a bad escape.", "Des données quoted-printable contiennent un échappement incorrect."},
	{OddCharset, Ambiguous, "Text is in a character set that clients read differently, such as UTF-7.", "Un texte est dans un jeu de caractères lu différemment par les clients, comme UTF-7."},
	{UnknownCharset, Malformed, "Text is in a character set that is not known.", "Un texte est dans un jeu de caractères inconnu."},
	{MissingMIME, Malformed, "The message uses MIME without saying so.", "Le message utilise MIME sans le dire."},
	{PartialMessage, Ambiguous, "The message is one piece of a larger one that only the client puts together.", "Le message est un morceau d'un plus grand que seul le client rassemble."},
	{ExternalBody, Ambiguous, "The content lies elsewhere and is fetched by the client.", "Le contenu se trouve ailleurs et c'est le client qui le charge."},
	{UnpackFailed, Malformed, "An archive or container could not be opened.", "Une archive ou un conteneur n'a pas pu être ouvert."},
	{EmbeddedInText, Malformed, "A file is written into text (uuencode, yEnc).", "Un fichier est inscrit dans un texte (uuencode, yEnc)."},
	{BrokenEmbedded, Ambiguous, "A file written into text is broken or has no end.", "Un fichier inscrit dans un texte est abîmé ou sans fin."},
	{BoundaryMissing, Ambiguous, "A multipart has no boundary.", "Un multipart n'a pas de délimiteur."},
	{BoundaryEmpty, Ambiguous, "A multipart has an empty boundary.", "Un multipart a un délimiteur vide."},
	{BoundaryDuplicate, Ambiguous, "A multipart has several boundaries.", "Un multipart a plusieurs délimiteurs."},
	{BoundaryOdd, Ambiguous, "A boundary is written so that clients read it differently.", "Un délimiteur est écrit de façon que les clients le lisent différemment."},
	{BoundaryReused, Ambiguous, "A multipart inside another uses the same boundary.", "Un multipart dans un autre utilise le même délimiteur."},
	{BoundaryPrefix, Ambiguous, "A line begins like a delimiter but goes on.", "Une ligne commence comme un délimiteur mais continue."},
	{BoundaryPadded, Ambiguous, "A delimiter stands after white space.", "Un délimiteur est précédé d'un blanc."},
	{BoundaryNotFound, Ambiguous, "The boundary of a multipart does not occur.", "Le délimiteur d'un multipart n'apparaît pas."},
	{BoundaryUnclosed, Malformed, "A multipart has no end.", "Un multipart n'a pas de fin."},
	{BoundaryAfterEnd, Ambiguous, "Parts stand after the end of a multipart.", "Des parties se trouvent après la fin d'un multipart."},
	{TextAfterEnd, Malformed, "Text stands after the end of a multipart.", "Du texte se trouve après la fin d'un multipart."},
	{PartInPreamble, Ambiguous, "A part stands before the first delimiter of a multipart.", "Une partie se trouve avant le premier délimiteur d'un multipart."},
	{PartInEpilogue, Ambiguous, "Header fields stand after the end of a multipart.", "Des champs d'en-tête se trouvent après la fin d'un multipart."},
	{FieldNoColon, Ambiguous, "A line in a header has no colon: some clients end the header there.", "Une ligne d'en-tête n'a pas de deux-points : certains clients y terminent l'en-tête."},
	{FieldSpaceColon, Ambiguous, "A field has white space before its colon.", "Un champ a un blanc avant ses deux-points."},
	{FieldBadName, Malformed, "A field name holds characters that it must not.", "Un nom de champ contient des caractères interdits."},
	{FieldFoldedName, Ambiguous, "A field is folded before its colon.", "Un champ est replié avant ses deux-points."},
	{FieldFirstSpace, Ambiguous, "A header begins with a continuation line.", "Un en-tête commence par une ligne de continuation."},
	{FieldBlankFold, Ambiguous, "A header has a line of nothing but white space: some clients end the header there.", "Un en-tête a une ligne de blancs : certains clients y terminent l'en-tête."},
	{MissingBlankLine, Malformed, "A header is not ended by an empty line.", "Un en-tête n'est pas terminé par une ligne vide."},
	{MissingHeader, Ambiguous, "The first line is not a header field.", "La première ligne n'est pas un champ d'en-tête."},
	{MissingFrom, Malformed, "The message has no From field.", "Le message n'a pas de champ From."},
	{MboxLine, Malformed, "The message begins with a line of a mailbox file.", "Le message commence par une ligne de fichier de boîte."},
	{BareCR, Ambiguous, "The message holds a CR without LF.", "Le message contient un CR sans LF."},
	{BareLF, Malformed, "The message holds an LF without CR.", "Le message contient un LF sans CR."},
	{NULByte, Malformed, "The message holds a NUL byte.", "Le message contient un octet NUL."},
	{LongLine, Malformed, "A line is longer than 998 bytes: it may be broken up on its way.", "Une ligne dépasse 998 octets : elle peut être coupée en route."},
	{LimitDepth, Limit, "Parts are nested too deeply.", "Les parties sont imbriquées trop profondément."},
	{LimitParts, Limit, "The message has too many parts.", "Le message a trop de parties."},
	{LimitHeader, Limit, "A header is too long.", "Un en-tête est trop long."},
	{LimitFields, Limit, "A header has too many fields or parameters.", "Un en-tête a trop de champs ou de paramètres."},
	{LimitDecoded, Limit, "The content unpacks to too many bytes.", "Le contenu décompressé est trop grand."},
	{LimitTime, Limit, "Reading the message took too long.", "La lecture du message a pris trop de temps."},
	{LimitReadings, Limit, "The message can be read in too many ways to look at all.", "Le message peut se lire de trop de façons pour toutes les examiner."},
}

// Class returns the class of the kind; Malformed if it is not one of Findings.
func (k FindingKind) Class() FindingClass {
	for i := range Findings {
		if Findings[i].Kind == k {
			return Findings[i].Class
		}
	}
	return Malformed
}

// maxOfKind is how many findings of one kind a message reports.
const maxOfKind = 16

// A found is a finding whose part may not have its number yet.
type found struct {
	kind     FindingKind
	part     *Part
	offset   int64
	evidence string
}

// A notebook collects findings, a few of each kind.
type notebook struct {
	list  []found
	count map[FindingKind]int
}

// add notes a finding unless there are enough of its kind.
func (n *notebook) add(k FindingKind, p *Part, offset int64, evidence []byte) {
	if n.count == nil {
		n.count = make(map[FindingKind]int)
	}
	if n.count[k]++; n.count[k] > maxOfKind {
		return
	}
	n.list = append(n.list, found{k, p, offset, clip(evidence)})
}

// clip makes evidence of what was seen: at most 120 bytes, one line.
func clip(b []byte) string {
	const most = 120
	cut := len(b) > most
	if cut {
		b = b[:most]
	}
	out := make([]byte, 0, len(b)+3)
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		out = append(out, c)
	}
	if cut {
		out = append(out, "..."...)
	}
	return string(out)
}
