// The frames of an event stream, as they come.

/**
 * Yield the data of each frame.
 * @param {ReadableStream<Uint8Array>} body
 */
export async function* frames(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const pieces = value.split("\n");
      for (const piece of pieces.slice(0, -1)) {
        rest.push(piece);
        const line = rest.join("");
        rest = [];
        // Our server's frames are one line each; what is no data is a comment, or ends a frame.
        if (line.startsWith("data: ")) yield line.slice(6);
      }
      // Pieces of a line are joined once it is whole: one of ten megabytes comes in hundreds.
      rest.push(pieces[pieces.length - 1]);
    }
  } finally {
    await reader.cancel();
  }
}
