"""Inflating an answer slice by slice."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

from xdr_mcp.http_client.patience import CutShort


async def gunzip(chunks: AsyncIterator[bytes], where: str) -> AsyncIterator[bytes]:
    """Inflate in slices of at most 64 KB, so that whoever counts can stop a bomb."""
    inflater, begun = zlib.decompressobj(wbits=31), False
    try:
        async for chunk in chunks:
            data = chunk
            while data:
                if inflater.eof:
                    inflater = zlib.decompressobj(wbits=31)
                begun = True
                yield inflater.decompress(data, 65_536)
                data = inflater.unconsumed_tail or inflater.unused_data
    except zlib.error as error:
        raise CutShort(f"{where}: the answer's gzip stream is damaged ({error})") from error
    if begun and not inflater.eof:
        raise CutShort(f"{where}: the answer's gzip stream was cut short")
