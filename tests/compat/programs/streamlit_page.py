"""A script for ``streamlit run``."""

from __future__ import annotations

import streamlit as st

if "pressed" not in st.session_state:
    st.session_state.pressed = 0
if st.button("press"):
    st.session_state.pressed += 1
st.text(f"pressed {st.session_state.pressed}")
