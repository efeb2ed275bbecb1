// Reads what memo/report/columns.h wrote: base64, deflate, varints, zigzag, differences. -> {name: Float64Array}
async function readColumns({ columns, data }) {
  const packed = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const result = {};
  let at = 0;
  for (const [name, rows] of columns) {
    const values = new Float64Array(rows);
    let value = 0;
    for (let i = 0; i < rows; ++i) {
      let byte = bytes[at++];
      const negative = byte & 1;
      let size = (byte & 127) >> 1, place = 64;  // in doubles: bit operations end at 32 bits
      for (; byte & 128; place *= 128) {
        byte = bytes[at++];
        size += (byte & 127) * place;
      }
      value += negative ? -size - 1 : size;
      values[i] = value;
    }
    result[name] = values;
  }
  return result;
}
