package wire

import "testing"

// The wanted texts are what RabbitMQ 3.10's own format strings printed for
// these frames under Erlang/OTP.
func TestFrameTexts(t *testing.T) {
	sixteen := func(c byte) []byte {
		b := make([]byte, 16)
		for i := range b {
			b[i] = c + byte(i)
		}
		return b
	}
	for _, c := range []struct{ got, want string }{
		{(&FrameError{Kind: FrameTooLarge, Type: 2, Size: 200000, Max: 131064}).Text(),
			"type 2, all octets = <<>>: {frame_too_large,200000,131064}"},
		{(&FrameError{Kind: FrameBadEnd, Type: 1, Payload: []byte("hello")}).Text(),
			`type 1, all octets = <<"hello">>: {invalid_frame_end_marker,0}`},
		{(&FrameError{Kind: FrameBadEnd, Type: 1, Payload: append(make([]byte, 16), 1)}).Text(),
			"type 1, first 16 octets = <<0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0>>: {invalid_frame_end_marker,\n" +
				"                                                                0}"},
		{(&FrameError{Kind: FrameBadEnd, Type: 1, Payload: append(sixteen(112), 1)}).Text(),
			"type 1, first 16 octets = <<112,113,114,115,116,117,118,119,120,121,122,123,\n" +
				"                            124,125,126,127>>: {invalid_frame_end_marker,0}"},
		{FrameText(8, nil), "type 8, all octets = <<>>"},
		{FrameText(3, []byte("a\"b\\c\t\x1b")), `type 3, all octets = <<"a\"b\\c\t\e">>`},
		{FrameText(3, []byte{195, 40}), "type 3, all octets = <<\"\xc3(\">>"},
		{UnknownFrameText(9, []byte{127}), "type 9, all octets = <<127>>: unknown_frame"},
		{FrameText(9, []byte{128, 97}), "type 9, all octets = <<128,97>>"},
		{(&DecodeError{Method: IDBasicAck, Args: sixteen(200)}).Text(),
			"cannot decode <<200,201,202,203,204,205,206,207,208,209,210,211,212,213,214,215>>"},
		{(&DecodeError{Args: []byte{0, 60, 0}}).Text(), "type 1, all octets = <<0,60,0>>: unknown_frame"},
		{(&DecodeError{Method: IDChannelOpen}).Text(), "cannot decode <<>>"},
		{(&DecodeError{Kind: UnknownMethod, Method: 60<<16 | 200}).Text(), "cannot decode <<>>"},
		{(&DecodeError{Kind: BadUTF8}).Text(), "Malformed UTF-8 in shortstr"},
	} {
		if c.got != c.want {
			t.Errorf("got\n%q, want\n%q", c.got, c.want)
		}
	}
}
