package exchange

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/warrenmq/warren/internal/wire"
)

// Term is a field value the way RabbitMQ prints it inside an error text: as an
// Erlang term, where a string is <<"text">>.
func Term(v any) string {
	switch v := v.(type) {
	case nil:
		return "undefined"
	case string:
		return binaryTerm(v)
	case []byte:
		return binaryTerm(string(v))
	case float32:
		return floatTerm(float64(v))
	case float64:
		return floatTerm(v)
	case wire.Decimal:
		return fmt.Sprintf("{%d,%d}", v.Scale, v.Value)
	case wire.Array:
		parts := make([]string, len(v))
		for i, x := range v {
			parts[i] = "{" + wire.TypeName(x) + "," + Term(x) + "}"
		}
		return "[" + strings.Join(parts, ",") + "]"
	case wire.Table:
		parts := make([]string, len(v))
		for i, f := range v {
			parts[i] = "{" + binaryTerm(f.Key) + "," + wire.TypeName(f.Value) + "," + Term(f.Value) + "}"
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return fmt.Sprint(v)
}

func binaryTerm(s string) string {
	if s == "" {
		return "<<>>"
	}
	for _, r := range s {
		if r < ' ' && r != '\n' && r != '\t' && r != '\r' || r == 0x7f || r == '\uFFFD' {
			return bytesTerm(s)
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return "<<" + quoteTerm(s) + "/utf8>>"
		}
	}
	return "<<" + quoteTerm(s) + ">>"
}

func quoteTerm(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`, "\r", `\r`).Replace(s) + `"`
}

func bytesTerm(s string) string {
	parts := make([]string, len(s))
	for i := 0; i < len(s); i++ {
		parts[i] = strconv.Itoa(int(s[i]))
	}
	return "<<" + strings.Join(parts, ",") + ">>"
}

// exactFrom is where floats stop holding every whole number.
const exactFrom = 1 << 53

// floatTerm prints the fewest digits that read back as f: plainly if that is no
// longer than with an exponent, and always with an exponent beyond exactFrom.
func floatTerm(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return strconv.FormatFloat(f, 'g', -1, 64) // no such thing on the wire of RabbitMQ
	}
	if f == 0 {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	scientific := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exp, _ := strings.Cut(scientific, "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exp)
	scientific = mantissa + "e" + strconv.Itoa(n)
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	if len(plain) <= len(scientific) && math.Abs(f) < exactFrom {
		return plain
	}
	return scientific
}

// QuoteTerm prints a text the way RabbitMQ prints a string inside a term: quoted,
// or as a list of code points if one of them lies outside Latin-1.
func QuoteTerm(s string) string {
	plain := true
	for _, r := range s {
		if r > 0xff || r == utf8.RuneError || r < ' ' && !strings.ContainsRune("\n\t\r", r) || r >= 0x7f && r < 0xa0 {
			plain = false
		}
	}
	if plain {
		return quoteTerm(s)
	}
	var points []string
	for _, r := range s {
		points = append(points, strconv.Itoa(int(r)))
	}
	return "[" + strings.Join(points, ",") + "]"
}
