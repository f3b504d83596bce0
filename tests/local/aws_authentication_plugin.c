/* AWSAuthenticationPlugin, as far as a MariaDB needs it to stand for an Aurora MySQL: an account that is made
 *
 *     IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'
 *
 * is let in with what the client sends through mysql_clear_password, if whoever answers at 127.0.0.1:$TOKENS_PORT says so: an
 * LDAP server (tokens.py), asked by a simple bind whose name is $TOKENS_HOST, a slash and the user. RDS has a plugin of its own,
 * of this name and this method, which asks IAM. What runs in between, the server's and the client's part, is the real thing.
 *
 *     cc -shared -fPIC -o aws_authentication_plugin.so aws_authentication_plugin.c
 *     mariadbd --plugin-dir=... --plugin-load-add=aws_authentication_plugin.so
 *
 * The declarations are MariaDB's interface for plugins (include/mysql/plugin.h, plugin_auth.h), written out as far as they are used: no
 * headers need be installed. The server refuses to load what was built for another version of it.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The interface knows no Apache licence: BSD is the nearest. */
enum { AUTHENTICATION = 7, BSD = 2, STABLE = 5, REFUSED = 0, LET_IN = -1 };
enum { INTERFACE_OF_PLUGINS = 0x010e, INTERFACE_OF_AUTHENTICATION = 0x0202 };

struct vio {
    int (*read_packet)(struct vio *, unsigned char **);
    int (*write_packet)(struct vio *, const unsigned char *, int);
};

/* More follows, which is not used here. */
struct login {
    const char *user;
    unsigned int user_length;
    const char *method;
    unsigned long method_length;
};

struct authentication {
    int version;
    const char *client_plugin;
    int (*authenticate)(struct vio *, struct login *);
    int (*hash)(const char *, size_t, char *, size_t *);
    int (*preprocess)(const char *, size_t, unsigned char *, size_t *);
};

struct plugin {
    int type;
    void *descriptor;
    const char *name, *author, *description;
    int license;
    int (*begin)(void *), (*end)(void *);
    unsigned int version;
    void *status, *settings;
    const char *version_text;
    unsigned int maturity;
};

/* An element of a bind with a length of four bytes, which BER allows for any length. */
static size_t element(unsigned char *at, unsigned char tag, const void *content, size_t length) {
    const unsigned char head[6] = {tag, 0x84, length >> 24, length >> 16, length >> 8, length};
    memcpy(at, head, sizeof head);
    if (content)
        memcpy(at + sizeof head, content, length);
    return sizeof head + length;
}

static int may_log_in(const char *user, size_t user_length, const unsigned char *token, size_t token_length) {
    const char *host = getenv("TOKENS_HOST"), *port = getenv("TOKENS_PORT");
    unsigned char name[1024], bind[8192], message[8192 + 64], answer[10];
    size_t name_length, length = 0, whole;
    if (!host || !port || strlen(host) + 1 + user_length > sizeof name || token_length > 4096)
        return 0;
    name_length = strlen(host);
    memcpy(name, host, name_length);
    name[name_length++] = '/';
    memcpy(name + name_length, user, user_length);
    name_length += user_length;
    length += element(bind + length, 0x02, "\3", 1);
    length += element(bind + length, 0x04, name, name_length);
    length += element(bind + length, 0x80, token, token_length);
    whole = element(message, 0x30, NULL, 7 + 6 + length) - (7 + 6 + length);
    whole += element(message + whole, 0x02, "\1", 1);
    whole += element(message + whole, 0x60, bind, length);

    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int asked = socket(AF_INET, SOCK_STREAM, 0), may = 0;
    /* The result of a bind is the tenth byte of an answer with short lengths; 0 is success. */
    if (asked >= 0 && connect(asked, (struct sockaddr *)&where, sizeof where) == 0
        && send(asked, message, whole, 0) == (ssize_t)whole
        && recv(asked, answer, sizeof answer, MSG_WAITALL) == (ssize_t)sizeof answer)
        may = answer[9] == 0;
    if (asked >= 0)
        close(asked);
    return may;
}

static int authenticate(struct vio *vio, struct login *login) {
    unsigned char *token;
    int length = vio->read_packet(vio, &token);
    if (length < 1 || login->method_length != 3 || memcmp(login->method, "RDS", 3) != 0)
        return REFUSED;
    /* A text with its end. */
    return may_log_in(login->user, login->user_length, token, token[length - 1] ? length : length - 1) ? LET_IN : REFUSED;
}

static struct authentication descriptor = {INTERFACE_OF_AUTHENTICATION, "mysql_clear_password", authenticate, NULL, NULL};

int _maria_plugin_interface_version_ = INTERFACE_OF_PLUGINS;
int _maria_sizeof_struct_st_plugin_ = sizeof(struct plugin);
struct plugin _maria_plugin_declarations_[] = {
    {AUTHENTICATION, &descriptor, "AWSAuthenticationPlugin", "tests", "IAM tokens, for tests", BSD, NULL, NULL, 0x0100, NULL, NULL, "1.0", STABLE},
    {0},
};
