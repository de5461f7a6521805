package vfs

import "slices"

const (
	blockBytes  = 4096
	chunkBlocks = 256
	chunkBytes  = blockBytes * chunkBlocks
)

// content is the bytes of a file in memory: a table of chunks of blocks, where what was never
// written costs nothing. Snapshots share blocks: a block or chunk may be changed in place only by
// the content whose token it carries, everybody else copies it first. Both sides of a snapshot get
// new tokens, so taking one copies the chunk table (8 bytes per MiB) and nothing else.
//
// Invariant: bytes at and after sizeBytes are zero, or not there.
type content struct {
	sizeBytes int64
	token     *ownerToken
	chunks    []*chunk
}

// ownerToken is compared by address; it has a size so that no two of them share one.
type ownerToken struct{ _ byte }

type chunk struct {
	token       *ownerToken
	blocks      [chunkBlocks]*[blockBytes]byte
	blockTokens [chunkBlocks]*ownerToken
}

// snapshot returns an independent content with the same bytes.
func (c *content) snapshot() content {
	c.token = new(ownerToken)
	return content{sizeBytes: c.sizeBytes, token: new(ownerToken), chunks: slices.Clone(c.chunks)}
}

// readAt fills p from offset; the caller keeps it inside the size.
func (c *content) readAt(p []byte, offset int64) {
	for len(p) > 0 {
		within := offset % blockBytes
		part := p[:min(int64(len(p)), blockBytes-within)]
		if block := c.block(offset); block != nil {
			copy(part, block[within:])
		} else {
			clear(part)
		}
		p, offset = p[len(part):], offset+int64(len(part))
	}
}

// writeAt stores p at offset and grows the size if that is needed.
func (c *content) writeAt(p []byte, offset int64) {
	c.sizeBytes = max(c.sizeBytes, offset+int64(len(p)))
	for len(p) > 0 {
		within := offset % blockBytes
		part := p[:min(int64(len(p)), blockBytes-within)]
		copy(c.ownBlock(offset)[within:], part)
		p, offset = p[len(part):], offset+int64(len(part))
	}
}

// setSize cuts the content or extends it with zeros.
func (c *content) setSize(sizeBytes int64) {
	if sizeBytes < c.sizeBytes {
		c.cut(sizeBytes)
	}
	c.sizeBytes = sizeBytes
}

// cut drops everything from offset on, so that growing again shows zeros.
func (c *content) cut(offset int64) {
	keepChunks := int((offset + chunkBytes - 1) / chunkBytes)
	if keepChunks < len(c.chunks) {
		clear(c.chunks[keepChunks:])
		c.chunks = c.chunks[:keepChunks]
	}
	last := int(offset / chunkBytes)
	if last >= len(c.chunks) || c.chunks[last] == nil {
		return
	}
	if within := offset % blockBytes; within != 0 && c.block(offset) != nil {
		clear(c.ownBlock(offset)[within:])
		offset += blockBytes - within
	}
	if int(offset/chunkBytes) == last { // else the cut falls into the chunk's last block
		first := offset % chunkBytes / blockBytes
		owned := c.ownChunk(last)
		clear(owned.blocks[first:])
		clear(owned.blockTokens[first:])
	}
}

// block gives the block that holds offset for reading; nil where nothing was written.
func (c *content) block(offset int64) *[blockBytes]byte {
	index := int(offset / chunkBytes)
	if index >= len(c.chunks) || c.chunks[index] == nil {
		return nil
	}
	return c.chunks[index].blocks[offset%chunkBytes/blockBytes]
}

// ownBlock gives the block that holds offset for writing.
func (c *content) ownBlock(offset int64) *[blockBytes]byte {
	owned := c.ownChunk(int(offset / chunkBytes))
	index := offset % chunkBytes / blockBytes
	if owned.blocks[index] == nil || owned.blockTokens[index] != c.token {
		block := new([blockBytes]byte)
		if shared := owned.blocks[index]; shared != nil {
			*block = *shared
		}
		owned.blocks[index], owned.blockTokens[index] = block, c.token
	}
	return owned.blocks[index]
}

func (c *content) ownChunk(index int) *chunk {
	if c.token == nil {
		c.token = new(ownerToken)
	}
	if index >= len(c.chunks) {
		c.chunks = append(c.chunks, make([]*chunk, index+1-len(c.chunks))...)
	}
	switch shared := c.chunks[index]; {
	case shared == nil:
		c.chunks[index] = &chunk{token: c.token}
	case shared.token != c.token:
		owned := *shared
		owned.token = c.token
		c.chunks[index] = &owned
	}
	return c.chunks[index]
}
