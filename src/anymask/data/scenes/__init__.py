"""The scenes world: pictures drawn by the package itself, with exact truth for everything."""

from anymask.data.scenes.scene import Scene, SceneObject, make_scene

__all__ = ["Scene", "SceneObject", "make_scene"]
