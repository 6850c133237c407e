"""
``/key/...``: blocking, deleting and replacing keys.
"""

from __future__ import annotations

from datetime import timedelta

from tests.management.office import MASTER, AtDesk


class Blocked(AtDesk):
    def test_block(self) -> None:
        """
        A key is blocked and unblocked by any of its names, as often as one likes.
        """
        made = self.desk.generate()
        for name in (made["key"], made["token"], made["key_id"]):
            for path, blocked in (("/key/block", True), ("/key/block", True), ("/key/unblock", False)):
                reply = self.desk.post(path, {"key": name})
                self.assertEqual((200, blocked), (reply.status, reply.json["blocked"]))
                self.assertEqual(made["key_id"], reply.json["key_id"])
                key = self.desk.opens(made["key"])
                self.assertEqual(blocked, key and key.blocked)
        actions = [line.action for line in self.desk.audit()]
        self.assertEqual(["key.block"] * 6 + ["key.generate"] + ["key.unblock"] * 3, sorted(actions))

    def test_refused(self) -> None:
        """
        What cannot be a key is told from one that is not there.
        """
        for path in ("/key/block", "/key/unblock"):
            for name in ("x", "0" * 63, "SK-aaaaaaaaaaaaaaaa"):
                self.refused(self.desk.post(path, {"key": name}), 400, "bad_request_error", "key")
            for name in ("sk-nobody-has-made-this", "0" * 64, "01890000-0000-7000-8000-000000000000"):
                self.refused(self.desk.post(path, {"key": name}), 404, "not_found_error", "key")
            self.wrong(self.desk.post(path, {}), ["body", "key"])


class Deleted(AtDesk):
    def test_by_any_name(self) -> None:
        """
        Keys are deleted by themselves, their digests, ids and aliases, and what named them is answered.
        """
        made = [self.desk.generate(key_alias=f"alias {at}") for at in range(6)]
        names = [made[0]["key"], made[1]["token"], made[2]["key_id"]]
        reply = self.desk.post("/key/delete", {"keys": names, "key_aliases": ["alias 3", "alias 4"]})
        self.assertEqual((200, [*names, "alias 3", "alias 4"]), (reply.status, reply.json["deleted_keys"]))
        self.assertEqual([True] * 5 + [False], [self.desk.opens(each["key"]) is None for each in made])
        self.assertEqual(
            {each["key_id"] for each in made[:5]}, {line.subject for line in self.desk.audit(action="key.delete")}
        )

    def test_those_found(self) -> None:
        """
        Those that are found are deleted; if none is, that is told.
        """
        made = self.desk.generate()
        reply = self.desk.post("/key/delete", {"keys": ["sk-nobody-has-made-this", made["key"], made["key_id"]]})
        self.assertEqual((200, [made["key"], made["key_id"]]), (reply.status, reply.json["deleted_keys"]))
        for body in ({"keys": [made["key"]]}, {"keys": [made["key_id"]]}, {"key_aliases": ["gone"]}):
            self.refused(self.desk.post("/key/delete", body), 404, "not_found_error", "keys")

    def test_refused(self) -> None:
        """
        Nothing is deleted by naming nothing, nor more than 500 at once.
        """
        made = self.desk.generate()
        nothing: list[object] = [{}, {"keys": []}, {"keys": None}, {"key_aliases": []}]
        for body in nothing:
            self.refused(self.desk.post("/key/delete", body), 400, "bad_request_error", "keys")
        for name in ("keys", "key_aliases"):
            self.wrong(self.desk.post("/key/delete", {name: ["sk-x"] * 501}), ["body", name])
        self.assertIsNotNone(self.desk.opens(made["key"]))


class Regenerated(AtDesk):
    def test_new_key(self) -> None:
        """
        A new key takes the old one's place at once; all else stays, its id too.
        """
        for path in ("/key/regenerate", "/key/{}/regenerate"):
            old = self.desk.generate(rpm_limit=5, metadata={"a": 1}, spend=2)
            reply = self.desk.post(path.format(old["key"]), {} if "{" in path else {"key": old["key"]})
            self.assertEqual(200, reply.status)
            new = reply.json
            self.assertNotEqual(old["key"], new["key"])
            self.assertNotEqual(old["token"], new["token"])
            self.assertEqual(f"sk-...{new['key'][-4:]}", new["key_name"])
            for name in ("key_id", "rpm_limit", "metadata", "spend", "created_at"):
                self.assertEqual(old[name], new[name])
            self.assertIsNone(self.desk.opens(old["key"]))
            opened = self.desk.opens(new["key"])
            self.assertEqual(old["key_id"], opened and opened.id)

    def test_no_body(self) -> None:
        """
        With the key in the path no body is needed.
        """
        old = self.desk.generate()
        self.assertEqual(200, self.desk.send("POST", f"/key/{old['token']}/regenerate").status)

    def test_grace(self) -> None:
        """
        With a grace period the old key goes on opening that long, and names the same key.
        """
        old = self.desk.generate()["key"]
        new = self.desk.post(f"/key/{old}/regenerate", {"grace_period": "24h"}).json
        self.assertEqual(200, self.desk.post("/key/block", {"key": old}).status)
        self.desk.now += timedelta(hours=23, minutes=59)
        for key in (old, new["key"]):
            opened = self.desk.opens(key)
            self.assertEqual((new["key_id"], True), (opened and opened.id, opened and opened.blocked))
        self.desk.now += timedelta(minutes=1)
        self.assertIsNone(self.desk.opens(old))
        self.assertIsNotNone(self.desk.opens(new["key"]))
        for span in ("", "1", "999999999mo", 5):
            reply = self.desk.post(f"/key/{new['key']}/regenerate", {"grace_period": span})
            self.wrong(reply, ["body", "grace_period"])

    def test_changes(self) -> None:
        """
        What else the body says is changed as by an update.
        """
        old = self.desk.generate(rpm_limit=5, duration="1h", guardrails=["g"])["key"]
        new = self.desk.post(
            f"/key/{old}/regenerate", {"duration": "2h", "key_alias": "new", "rpm_limit": None, "spend": 3}
        ).json
        self.assertEqual(
            ("2026-03-01T14:00:00Z", "new", None, ["g"], 3),
            tuple(new[name] for name in ("expires", "key_alias", "rpm_limit", "guardrails", "spend")),
        )
        kept = self.desk.get(f"/key/info?key={new['key']}").json["info"]
        self.assertEqual((3, "new"), (kept["spend"], kept["key_alias"]))

    def test_expired(self) -> None:
        """
        A key that has expired is not replaced by one that is dead, too: it wants a duration that leads on.
        """
        old = self.desk.generate(duration="1h")["key_id"]
        self.desk.now += timedelta(hours=1)
        self.refused(self.desk.post("/key/regenerate", {"key": old}), 400, "bad_request_error", "duration")
        new = self.desk.post("/key/regenerate", {"key": old, "duration": "1h"})
        self.assertEqual((200, "2026-03-01T14:00:00Z"), (new.status, new.json["expires"]))
        self.desk.now += timedelta(hours=2)
        self.assertEqual(200, self.desk.post("/key/regenerate", {"key": old, "duration": "-1"}).status)

    def test_own_key(self) -> None:
        """
        The new key can be brought along, if it is one, and nobody's yet.
        """
        old, other = self.desk.generate()["key"], self.desk.generate()["key"]
        for key in ("nothing", "sk-short", old, other, MASTER):
            reply = self.desk.post(f"/key/{old}/regenerate", {"new_key": key})
            self.refused(reply, 400, "bad_request_error", "new_key")
        self.assertIsNotNone(self.desk.opens(old))
        new = self.desk.post(f"/key/{old}/regenerate", {"new_key": "sk-brought-along-by-me"})
        self.assertEqual((200, "sk-brought-along-by-me"), (new.status, new.json["key"]))

    def test_refused(self) -> None:
        """
        Some key must be named, it must be there, and the master key is not changed here.
        """
        self.wrong(self.desk.post("/key/regenerate", {}), ["body", "key"])
        self.refused(self.desk.post("/key/regenerate", {"key": "sk-nobody"}), 404, "not_found_error", "key")
        key = self.desk.generate()["key"]
        self.refused(
            self.desk.post("/key/regenerate", {"key": key, "key_alias": "sk-x"}), 400, "bad_request_error", "key_alias"
        )
        reply = self.desk.post("/key/regenerate", {"key": key, "new_master_key": "sk-5678"})
        self.refused(reply, 400, "bad_request_error", "new_master_key")

    def test_audit(self) -> None:
        """
        It is written down that there is a new key, and neither of the two.
        """
        old = self.desk.generate()
        new = self.desk.post(f"/key/{old['key']}/regenerate", {}).json
        (line,) = self.desk.audit(action="key.regenerate")
        self.assertEqual(({"name": old["key_name"]}, {"name": new["key_name"]}), (line.before, line.after))
        self.assertEqual(old["key_id"], line.subject)
