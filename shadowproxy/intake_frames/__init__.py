"""What goes between an application and its companion, as bytes: frames, and what each kind of them says. No socket.

    frame = length (4 bytes) | kind (1) | key (8) | two lengths (4 each) | head | body | rest

The length is of all that follows the kind. Numbers are big-endian. The head is a JSON object in UTF-8, at most
HEAD_MOST bytes; of the two lengths the first is the head's, the second the body's, and what is left is the rest. Names
and values of header fields, and a request's target, are bytes: they stand in JSON as text of the same code points
(latin-1).

| kind | from | key | head | body | rest |
|---|---|---|---|---|---|
| HELLO | both | 0 | the application's: `protocol`, `process`, `version`; the companion's: a `Welcome` | | |
| BEGIN | application | the exchange's | a `Begin` | the request's body, or its beginning | the pickled call |
| END | application | the exchange's | how live's leg ended | the answer's, or its beginning | `Arrivals.packed` |
| LOST | application | 0 | how many exchanges it had to drop since the last LOST, by reason | | |
| CANDIDATE | application | 0 | a `Candidate` | | the pickled callable |
| RELOAD | application | 0 | empty: the configuration file has changed, put it in force | | |
| FLUSH | application | its own | empty | | |
| FLUSHED | companion | as FLUSH | empty: all that was begun before is settled, and written or counted as lost | | |
| CALL | companion | its own | a `Call`, for a candidate that runs in the application | | the pickled call |
| RESULT | application | as CALL | `failed`, or null | the result as JSON | |

The rules:

1. The first frame either way is HELLO. What the companion refuses it says in its HELLO (`refused`), and closes.
2. The application chooses the keys of exchanges: each is used once in a connection, by one BEGIN and then one END.
3. A BEGIN comes as soon as the request is whole, before live has answered: shadows and live work at the same time. The
   END comes after it, also where live was the first to finish.
4. Neither end waits for the other. The application drops whole exchanges that its own bound has no room for, and says
   so by LOST: a BEGIN without an END is not dropped, it ends as `incomplete` once the connection does.
5. A call that raised is an answer with the body `{"error": "Type: message"}` and status 200: the record's leg is `ok`,
   with `failed`. A result is its JSON.
6. A frame that cannot be read is a defect, or another program's: the end that reads it closes the connection.
   `Decoder.error` and `Malformed` say why; nothing here raises because of what was received.
"""

from shadowproxy.intake_frames.decoder import HEAD_MOST, MOST, PREFIX, Decoder
from shadowproxy.intake_frames.messages import (
    BEGIN,
    CALL,
    CANDIDATE,
    END,
    FLUSH,
    FLUSHED,
    HELLO,
    LOST,
    PROTOCOL,
    RELOAD,
    RESULT,
    Begin,
    Call,
    Candidate,
    End,
    Frame,
    Hello,
    Malformed,
    Result,
    Welcome,
)
from shadowproxy.intake_frames.reading import (
    begin_of,
    call_of,
    candidate_of,
    end_of,
    hello_of,
    lost_of,
    result_of,
    welcome_of,
)
from shadowproxy.intake_frames.writing import (
    begin_frame,
    call_frame,
    candidate_frame,
    end_frame,
    frame,
    hello_frame,
    lost_frame,
    packed,
    result_frame,
    welcome_frame,
)

__all__ = [
    "BEGIN",
    "CALL",
    "CANDIDATE",
    "END",
    "FLUSH",
    "FLUSHED",
    "HEAD_MOST",
    "HELLO",
    "LOST",
    "MOST",
    "PREFIX",
    "PROTOCOL",
    "RELOAD",
    "RESULT",
    "Begin",
    "Call",
    "Candidate",
    "Decoder",
    "End",
    "Frame",
    "Hello",
    "Malformed",
    "Result",
    "Welcome",
    "begin_frame",
    "begin_of",
    "call_frame",
    "call_of",
    "candidate_frame",
    "candidate_of",
    "end_frame",
    "end_of",
    "frame",
    "hello_frame",
    "hello_of",
    "lost_frame",
    "lost_of",
    "packed",
    "result_frame",
    "result_of",
    "welcome_frame",
    "welcome_of",
]
