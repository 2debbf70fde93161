"""Images as the files of a form: multipart/form-data, what `curl -F` and browsers send."""

from werkzeug.exceptions import BadRequest, RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from container.serving.inputs.items import MAX_IMAGES, Item, Payload


def parse_form(boundary: str, body: bytes) -> Payload:
    """Every part is an image, whatever its field is called, in the order of the parts.

    Raises:
        BadRequest: the parts are not where the boundary says, or there is none.
        RequestEntityTooLarge: more than MAX_IMAGES parts.
    """
    # Werkzeug's own form parser would lose the order, and write large files to the disk.
    try:
        return Payload([Item(data) for data in _parts(boundary, body)], several=True)
    except (ValueError, UnicodeError):
        raise BadRequest(
            "The form is damaged: its parts are not where its boundary says; send it with "
            "curl -F image=@FILE."
        ) from None


def _parts(boundary: str, body: bytes) -> list[bytes]:
    decoder = MultipartDecoder(boundary.encode("ascii"), max_parts=None)
    decoder.receive_data(body)
    decoder.receive_data(None)
    parts: list[list[bytes]] = []
    while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
        if isinstance(event, Field | File):
            if len(parts) == MAX_IMAGES:
                raise RequestEntityTooLarge(
                    f"The form has more than {MAX_IMAGES} parts; send at most that many images."
                )
            parts.append([])
        elif isinstance(event, Data):
            parts[-1].append(event.data)
    if not parts:
        raise ValueError("no parts")
    return [b"".join(part) for part in parts]
