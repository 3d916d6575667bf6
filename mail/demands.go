package mail

// Demands are what a message asks of every connection that carries it on:
// the protection that the client, the rules or an encryption gateway require.
// Its zero value demands nothing. Demands are only ever tightened, never
// loosened, on the way to the next hop.
type Demands struct {
	TLS        string // at least: "", "none", "opportunistic", "required", "verify"
	RequireTLS bool   // the client gave REQUIRETLS (RFC 8689): TLS verified, and REQUIRETLS passed on
	Encrypted  bool   // the content was encrypted by us: nothing of it may travel in clear, not even in a bounce
}

// tlsRank orders the TLS modes from the laxest to the strictest. A mode that
// is not known ranks above all of them.
var tlsRank = map[string]int{"": 0, "none": 0, "opportunistic": 1, "required": 2, "verify": 3}

// StricterTLS returns the stricter of two TLS modes. A mode that it does not
// know counts as stricter than every mode that it knows, so that a slip of the
// pen never loosens a demand.
func StricterTLS(a, b string) string {
	ra, oka := tlsRank[a]
	rb, okb := tlsRank[b]
	switch {
	case !oka:
		return a
	case !okb || rb > ra:
		return b
	case a == "":
		return b
	}
	return a
}

// Tighten returns demands that hold whenever both d and other hold.
func (d Demands) Tighten(other Demands) Demands {
	return Demands{
		TLS:        StricterTLS(d.TLS, other.TLS),
		RequireTLS: d.RequireTLS || other.RequireTLS,
		Encrypted:  d.Encrypted || other.Encrypted,
	}
}

// MinimumTLS returns the TLS mode that a connection has to keep at least for
// these demands: RFC 8689 section 4.2.1 wants the server authenticated.
func (d Demands) MinimumTLS() string {
	if d.RequireTLS {
		return StricterTLS(d.TLS, "verify")
	}
	return d.TLS
}
