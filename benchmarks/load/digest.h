#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>
#include <stdint.h>

void base64(char *out, const uint8_t *in, size_t length);
void sha1(uint8_t out[20], const uint8_t *in, size_t length);

#endif
