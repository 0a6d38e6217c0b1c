"""A middleware for the edge: pages for members, with a greeting.

In edge.toml:

    [[sites.middleware]]
    file = "members.py"
    settings = {secret = "…", paths = ["/members/"]}

Who comes with a signed cookie is a member: the service gets the name in ``X-Member``, and nobody can make one up.
Others get 403 under the given paths.  A POST to /login with the form's ``name`` and ``password`` is answered here: the
service is asked whether they are right, and the cookie is set.
"""

import hmac
from hashlib import sha256
from urllib.parse import parse_qs, quote

from wormhole_tw.middleware import Response

COOKIE = "member"
FORM = 4096  # octets: a name and a password


class Middleware:
    def __init__(self, *, secret, paths):
        if len(secret) < 16:
            raise ValueError("secret: at least 16 characters")
        self.secret = secret.encode()
        self.paths = tuple(paths)

    async def __call__(self, request, next):
        if request.method == "POST" and request.path == "/login":
            return await self.log_in(request, next)
        member = self.member(request.cookies.get(COOKIE, ""))
        request.headers.remove_alike("X-Member")
        if member:
            request.headers.add("X-Member", member)
        elif request.path.startswith(self.paths):
            return Response.text(403, "For members only.\n")
        response = await next(request)
        response.headers.add_to_list("Vary", "Cookie")
        return response

    async def log_in(self, request, next):
        form = parse_qs((await request.body.read(FORM)).decode("utf-8", "replace"))
        response = await next(request)  # the form was read whole: it goes on as it came
        if response.status == 204:
            name = quote(form.get("name", [""])[0])  # what a cookie and a header field can hold
            response = Response.redirect("/members/", 303)
            response.set_cookie(COOKIE, f"{name}.{self.signature(name)}", max_age=86400)
        return response

    def member(self, cookie):
        name, _, signature = cookie.rpartition(".")
        good = hmac.compare_digest(signature.encode(), self.signature(name).encode())
        return name if name and good else None

    def signature(self, name):
        return hmac.new(self.secret, name.encode(), sha256).hexdigest()
