/* The lowest floors: epoll, read and write and next to nothing else. What they take is what the
 * kernel of this machine asks of any server.
 *
 * usage: c-epoll PORT|PATH MODE
 *
 * What a connection says goes back to it; with MODE "broadcast", to every connection, which then
 * gets a byte in the beginning that says it is one of them. With MODE "handshake" a connection is a
 * WebSocket of a client that does everything right, and whose every frame comes in one piece.
 */
#define _GNU_SOURCE
#include "load/digest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS 65536                       /* by descriptor */

static enum mode { ECHO, BROADCAST, HANDSHAKE } mode;

static struct client {
    bool open, upgraded;
    uint8_t *rest;                          /* what the socket's buffer had no room for yet */
    size_t at, length;                      /* of it, what lies between them is to be sent */
} clients[CLIENTS];
static int epoll_fd, highest;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epoll_fd, operation, fd, &event)) die("epoll_ctl");
}

static int listen_at(const char *address) {
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(address)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un uds = {.sun_family = AF_UNIX};
    bool path = address[0] == '/';
    int fd = socket(path ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    strncpy(uds.sun_path, address, sizeof uds.sun_path - 1);
    if (path ? bind(fd, (struct sockaddr *)&uds, sizeof uds)
             : bind(fd, (struct sockaddr *)&tcp, sizeof tcp))
        die(address);
    if (listen(fd, 2048)) die("listen");
    return fd;
}

/* How much of it the socket's buffer had room for; a connection that is lost has room for all. */
static size_t write_some(int fd, const uint8_t *data, size_t length) {
    ssize_t n = write(fd, data, length);
    if (n < 0) return errno == EAGAIN ? 0 : length;
    return (size_t)n;
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= CLIENTS) die("too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = (struct client){.open = true};
        if (fd > highest) highest = fd;
        watch(fd, EPOLL_CTL_ADD, EPOLLIN);
        if (mode == BROADCAST) write_some(fd, (const uint8_t *)"+", 1);
    }
    if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static void end(int fd) {
    free(clients[fd].rest);
    clients[fd] = (struct client){0};
    close(fd);
}

/* While something is left over for a connection nothing more is read from it. */
static void send_to(int fd, const uint8_t *data, size_t length) {
    struct client *c = &clients[fd];
    size_t sent = c->length ? 0 : write_some(fd, data, length);
    if (sent == length) return;
    if (!c->length) watch(fd, EPOLL_CTL_MOD, EPOLLOUT);
    c->rest = realloc(c->rest, c->length + length - sent);
    if (!c->rest) die("realloc");
    memcpy(c->rest + c->length, data + sent, length - sent);
    c->length += length - sent;
}

static void send_rest(int fd) {
    struct client *c = &clients[fd];
    c->at += write_some(fd, c->rest + c->at, c->length - c->at);
    if (c->at < c->length) return;
    c->at = c->length = 0;
    watch(fd, EPOLL_CTL_MOD, EPOLLIN);
}

/* RFC 6455 section 4.2.2. */
static void upgrade(int fd, const uint8_t *head, size_t length) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", name[] = "Sec-WebSocket-Key: ";
    const uint8_t *key = memmem(head, length, name, sizeof name - 1);
    uint8_t text[60], digest[20];
    char accept[32], answer[160];
    if (!key) die("no key");
    memcpy(text, key + sizeof name - 1, 24);
    memcpy(text + 24, guid, 36);
    sha1(digest, text, 60);
    base64(accept, digest, 20);
    int n = sprintf(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    clients[fd].upgraded = true;
    send_to(fd, (uint8_t *)answer, (size_t)n);
}

/* A masked frame of less than 126 bytes goes back; behind a close frame, the end does, too. */
static void answer_frame(int fd, uint8_t *frame, size_t length) {
    size_t size = frame[1] & 0x7f;
    if (size >= 126 || length != size + 6) die("not one small frame");
    for (size_t i = 0; i < size; i++) frame[6 + i] ^= frame[2 + (i & 3)];
    frame[4] = frame[0];
    frame[5] = (uint8_t)size;
    bool last = (frame[0] & 0x0f) == 8;
    if (send(fd, frame + 4, size + 2, last ? MSG_MORE : 0) < 0) return;
    if (last) shutdown(fd, SHUT_WR);
}

static void take(int fd) {
    static uint8_t data[256 * 1024];
    ssize_t n = read(fd, data, sizeof data);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        end(fd);
    } else if (mode == HANDSHAKE) {
        if (clients[fd].upgraded) answer_frame(fd, data, (size_t)n);
        else upgrade(fd, data, (size_t)n);
    } else if (mode == BROADCAST) {
        for (int to = 0; to <= highest; to++)
            if (clients[to].open) send_to(to, data, (size_t)n);
    } else {
        send_to(fd, data, (size_t)n);
    }
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: c-epoll PORT|PATH MODE\n");
        return 2;
    }
    mode = !strcmp(argv[2], "broadcast") ? BROADCAST : !strcmp(argv[2], "handshake") ? HANDSHAKE : ECHO;
    int listener = listen_at(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);
    for (;;) {
        struct epoll_event events[1024];
        int count = epoll_wait(epoll_fd, events, 1024, -1);
        if (count < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) accept_all(fd);
            else if (clients[fd].length) send_rest(fd);
            else take(fd);
        }
    }
}
