/* What comes back: WebSocket frames and HTTP responses, every byte of them checked. */
#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEAD_LIMIT 16384

static uint8_t inflated[256 * 1024];

/* The next bytes of an answer must be those that are expected there. */
static void check(struct connection *c, const uint8_t *data, size_t length) {
    size_t pos = c->message_pos, head = c->expect_head_length;
    if (length > c->expect_length - pos) {
        fail(c, "answer longer than the expected %zu bytes", c->expect_length);
        return;
    }
    c->message_pos += length;
    if (pos < head) {
        size_t piece = head - pos < length ? head - pos : length;
        if (memcmp(data, c->expect_head + pos, piece)) {
            fail(c, "wrong content in the first %zu bytes", head);
            return;
        }
        data += piece;
        pos += piece;
        length -= piece;
    }
    if (memcmp(data, c->expect + pos, length)) fail(c, "wrong content after byte %zu", pos);
}

static void finish(struct connection *c) {
    if (c->message_pos != c->expect_length) {
        fail(c, "answer of %zu bytes, expected %zu", c->message_pos, c->expect_length);
        return;
    }
    c->in_message = false;
    answered(c);
}

static void check_inflated(struct connection *c, const uint8_t *data, size_t length) {
    if (!c->inflate) {
        c->inflate = calloc(1, sizeof *c->inflate);
        inflateInit2(c->inflate, strstr(extensions, "server_max_window_bits=12") ? -12 : -15);
    }
    c->inflate->next_in = (Bytef *)(uintptr_t)data;
    c->inflate->avail_in = (uInt)length;
    do {
        c->inflate->next_out = inflated;
        c->inflate->avail_out = sizeof inflated;
        int status = inflate(c->inflate, Z_SYNC_FLUSH);
        if (status != Z_OK && status != Z_BUF_ERROR) {
            fail(c, "inflate: %d", status);
            return;
        }
        check(c, inflated, sizeof inflated - c->inflate->avail_out);
    } while (!errors && (c->inflate->avail_in || !c->inflate->avail_out));
}

/* RFC 6455 section 5.2, a server's frames: never masked. */
static bool begin_frame(struct connection *c) {
    uint8_t first = c->head[0], second = c->head[1];
    c->fin = first & 0x80;
    c->rsv1 = first & 0x40;
    c->opcode = first & 15;
    if (first & 0x30 || second & 0x80) {
        fail(c, "bad frame header %02x %02x", first, second);
        return false;
    }
    c->frame_left = second & 0x7f;
    if (c->frame_left == 126) {
        c->frame_left = (uint64_t)c->head[2] << 8 | c->head[3];
    } else if (c->frame_left == 127) {
        c->frame_left = 0;
        for (int i = 2; i < 10; i++) c->frame_left = c->frame_left << 8 | c->head[i];
    }
    c->in_frame = true;
    if (c->opcode >= 8) {
        c->control_length = 0;
        if (c->frame_left > 125) fail(c, "control frame of %llu bytes", (unsigned long long)c->frame_left);
    } else if (c->opcode) {
        bool binary = opt.binary && opt.mode != PUSH && opt.mode != FLOOD && c->phase != GREETED;
        if (c->in_message || c->opcode != (binary ? 2 : 1) || (c->rsv1 && !opt.deflate)) {
            fail(c, "unexpected frame %02x", first);
            return false;
        }
        c->in_message = true;
        c->inflating = c->rsv1;
        expect_next(c);
    } else if (!c->in_message || c->rsv1) {
        fail(c, "unexpected continuation %02x", first);
    }
    return !errors;
}

static void end_frame(struct connection *c) {
    static const uint8_t tail[4] = {0, 0, 0xff, 0xff};
    c->in_frame = false;
    if (c->opcode == 9) {
        uint8_t pong[160];
        send_raw(c, pong, build_frame(pong, 0x8a, c->control, (size_t)c->control_length));
    } else if (c->opcode == 8) {
        closed(c);
    } else if (c->opcode < 8 && c->fin) {
        if (c->inflating) check_inflated(c, tail, 4);
        if (!errors) finish(c);
    }
}

static void take_frames(struct connection *c, const uint8_t *data, size_t length) {
    while (!errors) {
        if (!c->in_frame) {
            int need = 2;
            while (length || c->head_length >= 2) {
                if (c->head_length >= 2) {
                    int size = c->head[1] & 0x7f;
                    need = size < 126 ? 2 : size == 126 ? 4 : 10;
                    if (c->head_length >= need) break;
                    if (!length) return;
                }
                c->head[c->head_length++] = *data++;
                length--;
            }
            if (c->head_length < need) return;
            c->head_length = 0;
            if (!begin_frame(c)) return;
        }
        size_t piece = c->frame_left < length ? (size_t)c->frame_left : length;
        if (c->opcode >= 8) {
            memcpy(c->control + c->control_length, data, piece);
            c->control_length += (int)piece;
        } else if (c->inflating) {
            check_inflated(c, data, piece);
        } else {
            check(c, data, piece);
        }
        if (errors) return;
        data += piece;
        length -= piece;
        c->frame_left -= piece;
        if (c->frame_left) return;
        end_frame(c);
        if (is_deaf(c)) return;
    }
}

/* The value of a header in a head that ends with an empty line, or NULL. */
static const char *header(const char *text, size_t length, const char *name, size_t *size) {
    size_t name_length = strlen(name);
    const char *end = text + length;
    for (const char *line = memchr(text, '\n', length); line && ++line < end;
         line = memchr(line, '\n', (size_t)(end - line))) {
        if ((size_t)(end - line) <= name_length || line[name_length] != ':' ||
            strncasecmp(line, name, name_length))
            continue;
        const char *value = line + name_length + 1, *stop = memchr(value, '\r', (size_t)(end - value));
        while (*value == ' ') value++;
        *size = stop && stop > value ? (size_t)(stop - value) : 0;
        return value;
    }
    return NULL;
}

static void opening(struct connection *c, const char *text, size_t length) {
    size_t size = 0;
    const char *value = header(text, length, "sec-websocket-accept", &size);
    if (strncmp(text, "HTTP/1.1 101", 12)) {
        fail(c, "handshake refused: %.12s", text);
    } else if (!value || size != 28 || memcmp(value, c->accept, 28)) {
        fail(c, "wrong Sec-WebSocket-Accept");
    } else {
        value = header(text, length, "sec-websocket-extensions", &size);
        if (value && size < sizeof extensions) {
            memcpy(extensions, value, size);
            extensions[size] = 0;
        }
        c->phase = opt.greeted ? GREETED : OPEN;
        if (!opt.greeted) opened(c);
    }
}

static void response(struct connection *c, const char *text, size_t length) {
    size_t size = 0;
    const char *value;
    if (strncmp(text, "HTTP/1.1 200", 12)) {
        fail(c, "response %.12s", text);
        return;
    }
    value = header(text, length, "content-length", &size);
    c->chunked = !value;
    c->body_left = value ? atoll(value) : 0;
    if (!value) {
        value = header(text, length, "transfer-encoding", &size);
        if (!value || size != 7 || strncasecmp(value, "chunked", 7)) {
            fail(c, "response of unknown length");
            return;
        }
    }
    c->chunk_state = 0;
    c->in_body = true;
    expect_next(c);
}

enum { CHUNK_SIZE, CHUNK_LINE, CHUNK_DATA, CHUNK_CR, CHUNK_LF, TRAILER_START, TRAILER_LINE, LAST_LF };

/* RFC 9112 section 7.1; returns how many bytes were used, sets `done` at the end of the body. */
static size_t take_chunks(struct connection *c, const uint8_t *data, size_t length, bool *done) {
    size_t pos = 0;
    while (pos < length && !errors) {
        uint8_t byte = data[pos];
        switch (c->chunk_state) {
        case CHUNK_SIZE:
            pos++;
            if (byte >= '0' && byte <= '9') c->body_left = c->body_left * 16 + byte - '0';
            else if ((byte | 32) >= 'a' && (byte | 32) <= 'f')
                c->body_left = c->body_left * 16 + (byte | 32) - 'a' + 10;
            else if (byte == '\r' || byte == ';') c->chunk_state = CHUNK_LINE;
            else fail(c, "bad chunk size");
            break;
        case CHUNK_LINE:
            pos++;
            if (byte == '\n') c->chunk_state = c->body_left ? CHUNK_DATA : TRAILER_START;
            break;
        case CHUNK_DATA: {
            size_t piece = (size_t)c->body_left < length - pos ? (size_t)c->body_left : length - pos;
            check(c, data + pos, piece);
            pos += piece;
            c->body_left -= (int64_t)piece;
            if (!c->body_left) c->chunk_state = CHUNK_CR;
            break;
        }
        case CHUNK_CR:
        case CHUNK_LF:
            pos++;
            if (byte != (c->chunk_state == CHUNK_CR ? '\r' : '\n')) fail(c, "bad end of a chunk");
            c->chunk_state = c->chunk_state == CHUNK_CR ? CHUNK_LF : CHUNK_SIZE;
            break;
        case TRAILER_START:
            pos++;
            c->chunk_state = byte == '\r' ? LAST_LF : TRAILER_LINE;
            break;
        case TRAILER_LINE:
            pos++;
            if (byte == '\n') c->chunk_state = TRAILER_START;
            break;
        default:
            *done = true;
            return pos + 1;
        }
    }
    return pos;
}

static size_t take_body(struct connection *c, const uint8_t *data, size_t length) {
    bool done = false;
    size_t used;
    if (c->chunked) {
        used = take_chunks(c, data, length, &done);
    } else {
        used = (size_t)c->body_left < length ? (size_t)c->body_left : length;
        check(c, data, used);
        c->body_left -= (int64_t)used;
        done = !c->body_left;
    }
    if (done && !errors) {
        c->in_body = false;
        finish(c);
    }
    return used;
}

/* Collect an HTTP head; returns how many bytes of `data` belong to it. */
static size_t take_head(struct connection *c, const uint8_t *data, size_t length) {
    const char *text = (const char *)data, *end;
    size_t size = length, used;
    if (c->text_length) {
        if (c->text_length + length > HEAD_LIMIT) size = length = HEAD_LIMIT - c->text_length;
        memcpy(c->text + c->text_length, data, length);
        text = c->text;
        size = c->text_length + length;
    }
    end = memmem(text, size, "\r\n\r\n", 4);
    if (!end) {
        if (size >= HEAD_LIMIT) {
            fail(c, "endless HTTP head");
        } else if (!c->text_length) {
            if (!c->text) c->text = malloc(HEAD_LIMIT);
            memcpy(c->text, data, length);
        }
        c->text_length = size;
        return length;
    }
    used = (size_t)(end - text) + 4 - c->text_length;
    size = (size_t)(end - text) + 4;
    c->text_length = 0;
    if (c->phase == OPENING) opening(c, text, size);
    else response(c, text, size);
    return used;
}

void take(struct connection *c, const uint8_t *data, size_t length) {
    if (opt.tcp) {
        if (c->phase == OPENING && length) {
            c->phase = OPEN;
            opened(c);
            data++;
            length--;
        }
        while (length && !errors) {
            if (!c->in_message) {
                c->in_message = true;
                expect_next(c);
            }
            size_t left = c->expect_length - c->message_pos;
            size_t piece = left < length ? left : length;
            check(c, data, piece);
            data += piece;
            length -= piece;
            if (piece == left && !errors) finish(c);
        }
        return;
    }
    while (length && !errors) {
        size_t used;
        if (c->phase == OPENING || (opt.mode >= HELLO && !c->in_body)) {
            used = take_head(c, data, length);
        } else if (opt.mode >= HELLO) {
            used = take_body(c, data, length);
        } else {
            take_frames(c, data, length);
            return;
        }
        data += used;
        length -= used;
    }
}
