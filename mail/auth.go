package mail

// An AuthResult is one result of an authentication method, as it stands in an
// Authentication-Results field (RFC 8601 section 2.2).
type AuthResult struct {
	Method     string     // "spf", "dkim", "dmarc", "arc", "iprev", "auth"
	Value      string     // "pass", "fail", "none", "temperror"...
	Reason     string     // why, in plain words; empty if there is nothing to say
	Properties []Property // in order
}

// A Property is ptype.property=value, such as smtp.mailfrom=example.org.
type Property struct{ Type, Name, Value string }
