const blockBytes = 512

/**
 * Packs a few small files as a plain ustar archive, owned by root and without times: a build context.
 * @param {readonly {name: string, content: Buffer, mode?: number}[]} files `name` of at most 100 bytes
 * @returns {Buffer}
 */
export function packTar(files) {
  const parts = files.flatMap(({ name, content, mode = 0o644 }) => [
    header(name, content.length, mode),
    content,
    Buffer.alloc((blockBytes - (content.length % blockBytes)) % blockBytes),
  ])
  return Buffer.concat([...parts, Buffer.alloc(2 * blockBytes)])
}

/**
 * @param {string} name
 * @param {number} size
 * @param {number} mode
 */
function header(name, size, mode) {
  const block = Buffer.alloc(blockBytes)
  /** @param {number} value @param {number} width */
  const octal = (value, width) => value.toString(8).padStart(width - 1, '0')
  block.write(name, 0, 100)
  block.write(octal(mode, 8), 100)
  block.write(octal(0, 8), 108)
  block.write(octal(0, 8), 116)
  block.write(octal(size, 12), 124)
  block.write(octal(0, 12), 136)
  block.write('        ', 148)
  block.write('0', 156)
  block.write('ustar\x0000', 257, 'latin1')
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
  return block
}
