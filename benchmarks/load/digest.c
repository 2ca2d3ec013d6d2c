/* The two codes of a Sec-WebSocket-Accept, for the load generator and for a floor. */
#include "digest.h"

#include <string.h>

void base64(char *out, const uint8_t *in, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < length; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16;
        if (i + 1 < length) bits |= (uint32_t)in[i + 1] << 8;
        if (i + 2 < length) bits |= in[i + 2];
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = i + 1 < length ? digits[bits >> 6 & 63] : '=';
        *out++ = i + 2 < length ? digits[bits & 63] : '=';
    }
    *out = 0;
}

static uint32_t rotate(uint32_t x, int by) { return x << by | x >> (32 - by); }

/* FIPS 180-4; up to 119 bytes, of which a Sec-WebSocket-Key with its GUID needs 60. */
void sha1(uint8_t out[20], const uint8_t *in, size_t length) {
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t block[128] = {0};
    size_t total = length + 9 <= 64 ? 64 : 128;
    memcpy(block, in, length);
    block[length] = 0x80;
    for (int i = 0; i < 8; i++) block[total - 1 - i] = (uint8_t)((uint64_t)length * 8 >> (8 * i));
    for (size_t at = 0; at < total; at += 64) {
        uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
        for (int i = 0; i < 16; i++)
            w[i] = (uint32_t)block[at + 4 * i] << 24 | (uint32_t)block[at + 4 * i + 1] << 16 |
                   (uint32_t)block[at + 4 * i + 2] << 8 | block[at + 4 * i + 3];
        for (int i = 16; i < 80; i++) w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 20) {
                f = (b & c) | (~b & d), k = 0x5a827999;
            } else if (i < 40) {
                f = b ^ c ^ d, k = 0x6ed9eba1;
            } else if (i < 60) {
                f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
            } else {
                f = b ^ c ^ d, k = 0xca62c1d6;
            }
            uint32_t t = rotate(a, 5) + f + e + k + w[i];
            e = d, d = c, c = rotate(b, 30), b = a, a = t;
        }
        h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
    }
    for (int i = 0; i < 20; i++) out[i] = (uint8_t)(h[i / 4] >> (24 - 8 * (i % 4)));
}
