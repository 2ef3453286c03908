package journal

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is what stands before a document: eight digits and a space.
const frame = 9

// AppendLine appends the line for a document, which must have no newline and
// MaxLine octets at most.
func AppendLine(dst, document []byte) []byte {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.Checksum(document, castagnoli))
	dst = hex.AppendEncode(dst, sum[:])
	dst = append(dst, ' ')
	dst = append(dst, document...)
	return append(dst, '\n')
}

// CutLine takes the document out of a line without its newline, and returns
// false if it is not what was written.
func CutLine(line []byte) (document []byte, ok bool) {
	if len(line) < frame || len(line) > frame+MaxLine || line[frame-1] != ' ' {
		return nil, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:frame-1]); err != nil {
		return nil, false
	}
	document = line[frame:]
	return document, crc32.Checksum(document, castagnoli) == binary.BigEndian.Uint32(sum[:])
}
